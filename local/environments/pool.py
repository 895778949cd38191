"""The environments of one function: a request gets an idle one or a new one, or waits for its turn."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from local.environments.function import Environment, Function, InvocationFailed

MOST_ENVIRONMENTS = 10
# A cold start takes a core for half a second. When many requests come at once, most are served sooner by waiting for
# one of two: 40 on two cores took 1.0 s, and 3.2 s when each started its own. A first request may be slow for another
# reason, so it counts as a start for two seconds only.
MOST_STARTING = 2
STARTING_SECONDS = 2
IDLE_SECONDS = 300
LARGEST_EVENT = 6 * 1024 * 1024


class EventTooLarge(Exception):
    pass


@dataclass(eq=False, slots=True)
class _Place:
    generation: int
    since: float = field(default_factory=time.monotonic)  # that it starts, or later that it is idle
    is_warm: bool = False
    environment: Environment | None = None

    def close(self) -> None:
        if self.environment is not None:
            self.environment.close()


class Pool:
    def __init__(self, function: Function, start: Callable[[Function], Environment]) -> None:
        self.function = function
        self._start = start
        self._idle: list[_Place] = []  # the latest last
        self._busy: set[_Place] = set()
        self._generation = 0
        self._is_stopped = False
        self._changed = threading.Condition()

    def invoke(self, event: bytes) -> bytes:
        """Raises InvocationFailed, also for what the function raised."""
        if len(event) > LARGEST_EVENT:
            raise EventTooLarge
        place = self._take()
        try:
            place.environment = place.environment or self._start(self.function)
            self._refuse_when_stopped()
            answer = place.environment.invoke(event)
        except BaseException:
            self._give_back(place, is_good=False)
            raise
        self._give_back(place, is_good=True)
        _raise_error(answer)
        return answer

    def replace(self) -> None:
        """Code has changed: idle environments end now, busy ones after their request."""
        with self._changed:
            self._generation += 1
            ended, self._idle = self._idle, []
        _close(ended)

    def stop(self) -> None:
        """Requests that run or wait fail, and later ones too."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
            for place in self._busy:
                if place.environment is not None:
                    place.environment.stop()
        self.replace()

    def _take(self) -> _Place:
        with self._changed:
            while not self._idle and not self._may_start():
                self._changed.wait(STARTING_SECONDS)
            self._refuse_when_stopped()
            place = self._idle.pop() if self._idle else _Place(self._generation)
            if place.environment is not None and place.environment.has_ended():
                place.close()
                place = _Place(self._generation)
            self._busy.add(place)
            return place

    def _may_start(self) -> bool:
        recent = time.monotonic() - STARTING_SECONDS
        starting = sum(not place.is_warm and place.since > recent for place in self._busy)
        return self._is_stopped or (len(self._busy) < MOST_ENVIRONMENTS and starting < MOST_STARTING)

    def _give_back(self, place: _Place, *, is_good: bool) -> None:
        ended: list[_Place] = []
        with self._changed:
            self._busy.remove(place)
            place.since, place.is_warm = time.monotonic(), True
            is_good = is_good and place.generation == self._generation
            (self._idle if is_good else ended).append(place)
            while self._idle and self._idle[0].since < place.since - IDLE_SECONDS:
                ended.append(self._idle.pop(0))
            self._changed.notify_all()
        _close(ended)

    def _refuse_when_stopped(self) -> None:
        if self._is_stopped:
            raise InvocationFailed("the local run is stopping")


def _close(places: Iterable[_Place]) -> None:
    for place in places:
        place.close()


def _raise_error(answer: bytes) -> None:
    """Only the names in an answer tell a function that raised from one that returned."""
    if b'"errorMessage"' in answer:
        error = json.loads(answer)
        if isinstance(error, dict) and {"errorMessage", "errorType"} <= error.keys():
            raise InvocationFailed(str(error["errorMessage"]))
