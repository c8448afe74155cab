"""Prefix trees: rows of token ids that begin alike, computed with every shared prefix once, at equal results."""

from vcrd.trees.trie import Piece, Trie, build_trie, lexicographic, split_rows

__all__ = ["Piece", "Trie", "build_trie", "lexicographic", "split_rows"]
