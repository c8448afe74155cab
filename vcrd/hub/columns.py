"""What the columns of `training` mean, and in which unit; and what a row of each table is."""

from __future__ import annotations

ROWS = {
    "problems": "a problem",
    "models": "a role's model",
    "rollouts": "a solution that the student sampled, cut into steps",
    "proposals": "a next step under a prefix, by student or teacher",
    "labels": "a labelled step",
    "student_reviews": "a student's step, reviewed by the teacher",
    "teacher_reviews": "a teacher's step, reviewed by the student",
    "evidence": "what rules, reward model and peer say of a proposal",
    "completions": "a Monte-Carlo completion of a proposal",
    "validity": "a proposal's local validity and its standard deviation",
    "training": "a training example: a prefix and the step to learn under it",
    "evaluation": "a model's greedy answer to a test problem",
}

COLUMNS = {
    "example_id": ("rollout_id/s and step_index; unique", ""),
    "rollout_id": ("the solution whose prefix this is", ""),
    "problem_id": ("of the problem's content", ""),
    "domain": ("math, code or instructions", ""),
    "step_index": ("which step of the rollout the target stands for", "steps, from 0"),
    "target": ("whose step is learned: student or teacher", ""),
    "input_ids": ("prefix and target step", "token ids"),
    "labels": ("input_ids on the target step, -100 on the prefix", "token ids"),
    "token_weights": ("weight of each token, 0 on the prefix", "mean 1 over supervised tokens of the corpus"),
    "teacher_topk_ids": ("the teacher's likeliest next tokens at each place; none on the prefix", "token ids"),
    "teacher_topk_logprobs": ("their log-probabilities", "nats"),
    "teacher_tail_logprob": ("log of the rest of the teacher's mass", "nats"),
    "teacher_k": ("how many candidates each token has", "candidates"),
    "teacher_signal": ("the candidates, packed; read by vcrd.storage.decode_teacher_signal", "bytes"),
    "student_step": ("the student's next step", "text"),
    "teacher_step": ("the teacher's next step", "text"),
    "student_validity": ("local validity of the student's step", "probability"),
    "teacher_validity": ("local validity of the teacher's step", "probability"),
    "relative_validity": ("teacher_validity - student_validity", "difference of probabilities"),
    "target_value": ("share of right completions behind the target, smoothed; 1 where not used", "probability"),
    "step_strength": ("what the step counts for before weights are scaled", "at least 0"),
}
