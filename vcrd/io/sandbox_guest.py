"""What runs inside the sandbox: tests in one process, the program they test in another, only values between them.

It imports nothing of vcrd. The program's process knows neither the tests nor the token, and the tests see plain copies
of its values: what a value says of itself (`__eq__`, `__class__`) is never asked. Whatever the program does, the worst
it can do to the tests is to fail them. Where a value is of a kind that has no plain copy, the tests hold a handle to
it, which compares with other handles as the program says, and with plain values as unequal.
"""

import operator
import os
import struct
import sys
import types

_LIMIT = 16 << 20
_DUMPABLE = 4


class Ended(Exception):
    """The program's process is gone, or speaks no sense."""


class ProgramError(Exception):
    """An exception of the program that is no built-in one."""


class Pipe:
    """Frames of bytes between the two processes."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink

    def read(self, count):
        parts = []
        while count:
            part = os.read(self.source, min(count, 1 << 16))
            if not part:
                raise Ended
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def receive(self):
        (length,) = struct.unpack("<I", self.read(4))
        if length > _LIMIT:
            raise Ended
        return self.read(length)

    def send(self, data):
        view = memoryview(struct.pack("<I", len(data)) + data)
        while view:
            view = view[os.write(self.sink, view) :]


# How each plain kind is written down. An int's decimal digits would be bounded, its hexadecimal ones are not.
_SCALARS = {
    int: (b"i", lambda value: b"%x" % value, lambda data: int(data, 16)),
    float: (b"f", lambda value: repr(value).encode(), lambda data: float(data)),
    complex: (b"c", lambda value: repr(value).encode(), lambda data: complex(data.decode())),
    str: (
        b"s",
        lambda value: value.encode("utf-8", "surrogatepass"),
        lambda data: data.decode("utf-8", "surrogatepass"),
    ),
    bytes: (b"y", bytes, bytes),
    bytearray: (b"Y", bytes, bytearray),
}
_GROUPS = {list: b"l", tuple: b"t", set: b"S", frozenset: b"F", dict: b"d", range: b"r"}
_BY_TAG = {tag: read for tag, _, read in _SCALARS.values()}
_KINDS = {tag: kind for kind, tag in _GROUPS.items()}
_CONSTANTS = {b"N": None, b"1": True, b"0": False}
# A value of a kind of its own is written as the plain value within it, which that kind cannot redefine.
_WITHIN = (
    (int, int.__pos__),
    (float, float.__pos__),
    (str, lambda value: str.__getitem__(value, slice(None))),
    (bytes, lambda value: bytes.__getitem__(value, slice(None))),
    (list, lambda value: [*list.__iter__(value)]),
    (tuple, lambda value: (*tuple.__iter__(value),)),
    (set, lambda value: {*set.__iter__(value)}),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
    (dict, lambda value: dict(dict.items(value))),
)
_NAMED = {("decimal", "Decimal"), ("fractions", "Fraction"), ("collections", "deque")}


class Wire:
    """Turns values into bytes and back: plain ones by value, all others as a number that the other side may use."""

    def __init__(self, foreign):
        self.foreign = foreign
        self.kept = []
        self.numbers = {}

    def dumps(self, value):
        out = []
        self.dump(value, out)
        return b"".join(out)

    def dump(self, value, out):
        kind = type(value)
        if value is None or kind is bool:
            out.append(b"N" if value is None else b"1" if value else b"0")
        elif kind in _SCALARS:
            tag, write, _ = _SCALARS[kind]
            data = write(value)
            out.append(tag + struct.pack("<I", len(data)) + data)
        elif kind in _GROUPS:
            self.dump_group(kind, value, out)
        elif kind is Foreign:
            out.append(b"B" + struct.pack("<I", object.__getattribute__(value, "_number")))
        elif (kind.__module__, kind.__name__) in _NAMED:
            out.append(b"n")
            self.dump([kind.__module__, kind.__name__, list(value) if kind.__name__ == "deque" else str(value)], out)
        else:
            for plain, within in _WITHIN:
                if isinstance(value, plain):
                    return self.dump(within(value), out)
            if id(value) not in self.numbers:
                self.numbers[id(value)] = len(self.kept)
                self.kept.append(value)
            out.append(b"O" + struct.pack("<I", self.numbers[id(value)]))

    def dump_group(self, kind, value, out):
        items = value
        if kind is dict:
            items = [part for pair in value.items() for part in pair]
        elif kind is range:
            items = [value.start, value.stop, value.step]
        out.append(_GROUPS[kind] + struct.pack("<I", len(items)))
        for item in items:
            self.dump(item, out)

    def loads(self, data):
        value, position = self.load(data, 0)
        if position != len(data):
            raise Ended
        return value

    def load(self, data, position):
        tag = data[position : position + 1]
        position += 1
        if tag in _CONSTANTS:
            return _CONSTANTS[tag], position
        if tag == b"n":
            (module, name, given), position = self.load(data, position)
            if (module, name) not in _NAMED:
                raise Ended
            return getattr(__import__(module), name)(given), position
        (count,) = struct.unpack_from("<I", data, position)
        position += 4
        if tag in _BY_TAG:
            return _BY_TAG[tag](data[position : position + count]), position + count
        if tag in _KINDS:
            return self.load_group(_KINDS[tag], count, data, position)
        return (self.foreign(count) if tag == b"O" else self.kept[count]), position

    def load_group(self, kind, count, data, position):
        items = []
        for _ in range(count):
            item, position = self.load(data, position)
            items.append(item)
        if kind is dict:
            return dict(zip(items[::2], items[1::2], strict=True)), position
        return (range(*items) if kind is range else kind(items)), position


class Foreign:
    """Something that lives in the program's process: it can be called, and asked for attributes and items."""

    __slots__ = ("_number", "_tester")

    def __init__(self, tester, number):
        object.__setattr__(self, "_tester", tester)
        object.__setattr__(self, "_number", number)

    def _ask(self, what, *arguments):
        return object.__getattribute__(self, "_tester").ask(what, self, *arguments)

    def __call__(self, *arguments, **named):
        return self._ask("call", list(arguments), named)

    def __getattr__(self, name):
        return self._ask("attribute", name)

    def __getitem__(self, key):
        return self._ask("item", key)

    def __setitem__(self, key, value):
        return self._ask("set item", key, value)

    def __setattr__(self, name, value):
        return self._ask("set attribute", name, value)

    def __iter__(self):
        return iter(self._ask("list"))

    def __next__(self):
        return self._ask("next")

    def __len__(self):
        return int(self._ask("length"))

    def __bool__(self):
        return bool(self._ask("truth"))

    def __contains__(self, item):
        return any(mine == item for mine in self)

    def __str__(self):
        return str(self._ask("text"))

    def __repr__(self):
        return str(self._ask("repr"))

    def __instancecheck__(self, other):
        return bool(self._ask("isinstance", other))

    def __hash__(self):
        return object.__getattribute__(self, "_number")


def _between_handles(name):
    """A handle never decides how it compares with a value that only the tests know."""

    def apply(self, other):
        return self._ask("operate", name, other) if type(other) is Foreign else NotImplemented

    return apply


for _name in ("eq", "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv"):
    setattr(Foreign, f"__{_name}__", _between_handles(_name))


class Solver:
    """The program's process: runs the program, then does what it is asked."""

    def __init__(self, pipe):
        self.pipe = pipe
        self.wire = Wire(self.callback)

    def callback(self, number):
        def call(*arguments):
            self.pipe.send(self.wire.dumps(["callback", number, list(arguments)]))
            return self.serve()

        return call

    def run(self, code):
        space = {"__name__": "solution", "__builtins__": __builtins__}
        self.answer(self.load, [code, space])
        self.space = space
        while True:
            self.serve()

    def load(self, code, space):
        exec(compile(code.decode("utf-8"), "<program>", "exec", dont_inherit=True), space)
        return list(space)

    def serve(self):
        """Do what is asked until an answer to a callback comes; return that."""
        while True:
            what, *rest = self.wire.loads(self.pipe.receive())
            if what == "answer":
                return rest[0]
            self.answer(getattr(self, "do_" + what.replace(" ", "_")), rest, rest[1] if what == "call" else [])

    def answer(self, work, given, arguments=()):
        try:
            value = work(*given)
            changed = [[index, item] for index, item in enumerate(arguments) if type(item) in (list, dict, set)]
            reply = self.wire.dumps(["coroutine" if type(value) is types.CoroutineType else "value", value, changed])
        except BaseException as error:
            kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
            reply = self.wire.dumps(["error", type(error).__name__, kinds[0], _said(error)])
        self.pipe.send(reply)

    def do_name(self, name):
        value = self.space[name]
        return ["module", value.__name__] if type(value) is type(sys) else ["value", value]

    def do_call(self, function, arguments, named):
        return function(*arguments, **named)

    def do_await(self, coroutine):
        import asyncio

        return asyncio.run(coroutine)

    def do_attribute(self, owner, name):
        return getattr(owner, name)

    def do_item(self, owner, key):
        return owner[key]

    def do_set_item(self, owner, key, value):
        owner[key] = value

    def do_set_attribute(self, owner, name, value):
        setattr(owner, name, value)

    def do_list(self, owner):
        return list(owner)

    def do_next(self, owner):
        return next(owner)

    def do_length(self, owner):
        return len(owner)

    def do_truth(self, owner):
        return bool(owner)

    def do_text(self, owner):
        return str(owner)

    def do_repr(self, owner):
        return repr(owner)

    def do_isinstance(self, owner, other):
        return isinstance(other, owner)

    def do_operate(self, owner, name, other):
        return getattr(operator, name)(owner, other)


def _said(error):
    try:
        return str(error)[:200]
    except BaseException:
        return ""


class Tester:
    """The tests' process: what it does not have itself it asks the program for."""

    def __init__(self, pipe):
        self.pipe = pipe
        self.wire = Wire(lambda number: Foreign(self, number))

    def ask(self, what, *arguments):
        self.pipe.send(self.wire.dumps([what, *arguments]))
        return self.hear(arguments[1] if what == "call" else [])

    def hear(self, given):
        while True:
            kind, *rest = self.wire.loads(self.pipe.receive())
            if kind == "callback":
                number, arguments = rest
                self.pipe.send(self.wire.dumps(["answer", self.wire.kept[number](*arguments)]))
                continue
            if kind == "error":
                self.raise_error(*rest)
            if kind not in ("value", "coroutine"):
                raise Ended
            value, changed = rest
            for index, theirs in changed:
                _copy_into(given[index], theirs)
            return self.awaited(value) if kind == "coroutine" else value

    async def awaited(self, coroutine):
        """Stand for a coroutine of the program, which its own process runs to the end once the tests await it."""
        return self.ask("await", coroutine)

    def raise_error(self, name, builtin, said):
        kind = __builtins__.__dict__.get(builtin)
        known = isinstance(kind, type) and issubclass(kind, Exception)
        error = (kind if known and builtin == name else ProgramError)(said if builtin == name else name + ": " + said)
        raise error

    def run(self, entry_point, tests):
        names = self.hear([])
        if entry_point and entry_point not in names:
            return "error: the program does not define " + entry_point
        code = compile(tests, "<tests>", "exec", dont_inherit=True)
        space = {"__name__": "tests", "__builtins__": __builtins__}
        for name in sorted(_names(code) & set(names)):
            if name.startswith("__"):
                continue
            kind, value = self.ask("name", name)
            space[name] = __import__(value) if kind == "module" and value in sys.stdlib_module_names else value
        exec(code, space)
        return ""


def _copy_into(mine, theirs):
    if type(theirs) is not type(mine):
        return
    if type(mine) is list:
        mine[:] = theirs
    else:
        mine.clear()
        mine.update(theirs)


def _names(code):
    found = set(code.co_names)
    for part in code.co_consts:
        if type(part) is type(code):
            found |= _names(part)
    return found


def limit(seconds, memory, files, processes):
    """Bound this process and what comes of it, and let no other process look into it."""
    import ctypes
    import resource

    for name, value in (
        ("AS", memory),
        ("CPU", seconds),
        ("FSIZE", files),
        ("NPROC", processes),
        ("NOFILE", 64),
        ("CORE", 0),
    ):
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, value))
    if ctypes.CDLL(None).prctl(_DUMPABLE, 0) != 0:
        raise OSError("prctl")


def main():
    """Read limits and program, part, read the tests, run them, and say how it ended on standard output."""
    source = Pipe(0, -1)
    limit(*struct.unpack("<4Q", source.receive()))
    program = source.receive()
    to_solver, to_tester = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        pipe = Pipe(os.dup2(to_solver[0], 62), os.dup2(to_tester[1], 63))
        nothing = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.closerange(3, 62)
        del source, to_solver, to_tester
        try:
            Solver(pipe).run(program)
        finally:
            os._exit(0)
    os.close(to_solver[0])
    os.close(to_tester[1])
    report = os.dup(1)
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    entry_point, tests, token = (source.receive() for _ in range(3))
    try:
        reason = Tester(Pipe(to_tester[0], to_solver[1])).run(entry_point.decode("utf-8"), tests.decode("utf-8"))
    except AssertionError as error:
        reason = "failed: an assertion" + (": " + _said(error) if _said(error) else "")
    except (Ended, OSError):
        reason = "ended: " + _how_ended(child)
    except BaseException as error:
        reason = "error: " + type(error).__name__ + ": " + _said(error)
    os.write(report, reason.encode("utf-8", "replace")[:1000] if reason else token)
    os._exit(0)


def _how_ended(child):
    status = os.waitpid(child, os.WNOHANG)[1]
    if os.WIFSIGNALED(status):
        return "killed by signal " + str(os.WTERMSIG(status))
    return "the program's process left"


if __name__ == "__main__":
    main()
