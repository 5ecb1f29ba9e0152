"""Slices over real lines; what they hold is a number, so that what is lost and found again can be told."""

import threading
import time

import pytest

from encoder.errors import HashgrainError, Reason
from indexer.slices import line_fan
from indexer.slices.line_fan import LineFan, Replicas, Seen
from indexer.slices.lines import HOLD, Listener, NotHeldError

SECRET = b"s" * 32
NEW, OLD = b"new", b"old"


class Process:
    """Holds a slice: answers with its name, and dies when told."""

    def __init__(self, name, pointers=(NEW, OLD)):
        self.name, self.pointers, self.asked = name, set(pointers), []
        self.hold = threading.Event()
        self.hold.set()
        self.listener = Listener("127.0.0.1", SECRET, self.answer)

    def answer(self, pointer, segments, method, *args):
        self.asked.append(method)
        assert self.hold.wait(20)
        if method == HOLD:
            if pointer not in self.pointers:
                raise HashgrainError(Reason.INDEX_MISSING, "gone")
            return None
        if pointer not in self.pointers:
            raise NotHeldError("gone")
        if method == "bad":
            raise HashgrainError(Reason.BAD_VALUE, "bad")
        return self.name, segments, *args

    @property
    def address(self):
        return self.listener.address


class Cluster:
    """The processes there are, by slice."""

    def __init__(self, *slices):
        self.slices = [list(of) for of in slices]

    def look(self):
        return [Seen([one.address for one in of]) for of in self.slices]


PARTS = [range(2), range(2, 3)]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(line_fan, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(line_fan, "LOOK_SOON", 0.05)


@pytest.fixture
def fan_of():
    made = []

    def make(cluster, *, partial=False):
        made.append(Replicas(len(cluster.slices), cluster.look, SECRET))
        return LineFan(made[-1], NEW, PARTS, partial=partial)

    yield make
    for replicas in made:
        replicas.close()


def end(process):
    """Let a process be gone: it takes no line, and those that it has break."""
    process.listener.close()


def test_all_slices_are_asked_and_answer_in_order(fan_of):
    fan = fan_of(Cluster([Process("a")], [Process("b")]))
    assert fan.call([0, 1], "who", 7) == [("a", (0, 2), 7), ("b", (2, 3), 7)]
    assert fan.call([1], "who") == [("b", (2, 3))]
    for _ in range(3):
        with pytest.raises(HashgrainError) as bad:
            fan.call([0, 1], "bad")
        assert bad.value.reason is Reason.BAD_VALUE
    assert fan.call([1, 0], "who") == [("b", (2, 3)), ("a", (0, 2))]


def test_another_replica_answers_for_one_that_is_gone(fan_of):
    first, second = Process("first"), Process("second")
    cluster = Cluster([first, second], [Process("b")])
    fan = fan_of(cluster)
    said = {fan.call([0], "who")[0][0] for _ in range(10)}
    (gone,) = [one for one in (first, second) if one.name in said][:1]
    other = second if gone is first else first
    end(gone)
    for _ in range(5):
        assert fan.call([0, 1], "who")[0][0] == other.name


def test_a_slice_that_is_down_fails_the_call_or_is_left_out(fan_of):
    gone = Process("gone")
    cluster = Cluster([Process("a")], [gone])
    strict, lenient = fan_of(cluster), fan_of(cluster, partial=True)
    assert strict.call([0, 1], "who") == lenient.call([0, 1], "who")
    end(gone)
    cluster.slices[1] = []
    with pytest.raises(HashgrainError, match="slice 1") as down:
        strict.call([0, 1], "who")
    assert down.value.reason is Reason.SLICE_DOWN
    assert lenient.call([0, 1], "who") == [("a", (0, 2)), None]
    cluster.slices[1] = [Process("back")]
    deadline = time.monotonic() + 10
    while lenient.call([0, 1], "who")[1] is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while strict._replicas.up != [1, 1]:
        time.sleep(0.01)
    assert strict.call([0, 1], "who") == [("a", (0, 2)), ("back", (2, 3))]


def test_who_waits_for_a_process_that_is_gone_is_told(fan_of):
    """A machine that is lost closes no connection: that nobody knows its process any more is all there is."""
    lost = Process("lost")
    cluster = Cluster([Process("a")], [lost])
    fan = fan_of(cluster, partial=True)
    assert fan.call([1], "who") == [("lost", (2, 3))]
    lost.hold.clear()
    threading.Timer(0.3, cluster.slices[1].clear).start()
    began = time.monotonic()
    assert fan.call([0, 1], "who") == [("a", (0, 2)), None]
    assert time.monotonic() - began < 5
    lost.hold.set()


def test_who_does_not_have_the_generation_is_passed_over(fan_of):
    cluster = Cluster([Process("late", [OLD]), Process("there")], [Process("b")])
    fan = fan_of(cluster)
    for _ in range(4):
        assert fan.call([0], "who")[0][0] == "there"
    cluster.slices[0].pop()
    time.sleep(0.3)
    with pytest.raises(HashgrainError, match="gone") as down:
        fan.call([0], "who")
    assert down.value.reason is Reason.SLICE_DOWN


def test_a_generation_is_gone_to_once_every_slice_has_it(fan_of):
    late = Process("late", [NEW])
    cluster = Cluster([Process("a")], [late])
    fan = fan_of(cluster)
    with pytest.raises(HashgrainError) as missing:
        fan.at(OLD, PARTS)
    assert missing.value.reason is Reason.INDEX_MISSING
    late.pointers.add(OLD)
    other = fan.at(OLD, [range(1), range(1, 3)])
    assert other.call([0, 1], "who") == [("a", (0, 1)), ("late", (1, 3))]
    cluster.slices[1].clear()
    end(late)
    deadline = time.monotonic() + 5
    while fan._replicas.up[1]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(HashgrainError) as down:
        fan.at(OLD, PARTS)
    assert down.value.reason is Reason.SLICE_DOWN


def test_every_replica_is_told_of_a_new_generation(fan_of):
    replicas = [Process("x"), Process("y")]
    fan_of(Cluster(replicas, [Process("b")])).at(OLD, PARTS)
    assert [one.asked for one in replicas] == [[HOLD], [HOLD]]


def test_a_process_that_comes_is_used(fan_of):
    cluster = Cluster([Process("a")], [Process("b")])
    fan = fan_of(cluster)
    cluster.slices[0] = [Process("c")]
    deadline = time.monotonic() + 5
    while fan.call([0], "who")[0][0] != "c":
        assert time.monotonic() < deadline
        time.sleep(0.01)
