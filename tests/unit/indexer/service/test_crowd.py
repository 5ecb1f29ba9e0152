from dataclasses import dataclass, field

import pytest

from indexer.service.crowd import ROOM, Crowd
from indexer.service.settings import ServeSettings


@dataclass(eq=False)
class Client:
    """A connection as the crowd sees it."""

    waits_since: float | None = None
    unsent: int = 0
    said: list[object] = field(default_factory=list)

    def leave(self):
        self.said.append("left")

    def end(self, status, reason, detail):
        self.said.append(status)


@pytest.fixture
def crowd():
    return Crowd(ServeSettings(connections=40, held_bytes=100, unsent_bytes=100))


def test_the_oldest_body_of_which_more_is_to_come_makes_room(crowd):
    first, second, third = Client(), Client(), Client()
    one, two, three = (crowd.hold(client) for client in (first, second, third))
    crowd.grow(one, 40)
    one.whole = True
    crowd.grow(two, 40)
    crowd.grow(three, 40)
    assert (first.said, second.said, third.said) == ([], [429], [])
    crowd.grow(two, 40)  # what still comes of it is not counted
    assert crowd.held == 80
    one.release()
    one.release()
    assert crowd.held == 40


def test_a_body_that_finds_only_whole_ones_is_refused_itself(crowd):
    one, two = crowd.hold(Client()), crowd.hold(newest := Client())
    crowd.grow(one, 90)
    one.whole = True
    crowd.grow(two, 20)
    assert newest.said == [429]
    assert (crowd.held, list(crowd.holds)) == (90, [one])


def test_who_keeps_us_waiting_for_longest_makes_room_for_a_newcomer(crowd):
    slow = [Client(waits_since=float(number)) for number in range(ROOM + 5)]
    waiting_for_us, newest = Client(), Client(waits_since=0.0)
    everybody = {*slow, waiting_for_us, newest}
    assert crowd.take(newest, everybody, 40)
    assert not any(client.said for client in everybody)
    assert crowd.take(newest, everybody, 41)
    assert [client for client in slow if client.said] == slow[:ROOM]
    assert (waiting_for_us.said, newest.said) == ([], [])
    assert not crowd.take(newest, {waiting_for_us, newest}, 41)


def test_answers_that_nobody_takes_are_given_up_the_longest_first_and_never_the_newest(crowd):
    oldest, older, reading = Client(1.0, 60), Client(2.0, 60), Client()
    newest = Client(3.0, 500)
    crowd.send(newest, {oldest, older, reading, newest})
    assert (oldest.said, older.said, reading.said, newest.said) == (["left"], ["left"], [], [])
    oldest.said.clear()
    crowd.send(newest := Client(3.0, 30), {oldest, newest, reading})
    assert oldest.said == []
