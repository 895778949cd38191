"""The environments of one function: a request gets an idle one or a new one, or waits for its turn."""

import threading
import time
from collections.abc import Callable

from local.environments.function import Environment, Function

MOST_ENVIRONMENTS = 10
IDLE_SECONDS = 300
LARGEST_EVENT = 6 * 1024 * 1024


class EventTooLarge(Exception):
    pass


class Pool:
    def __init__(self, function: Function, start: Callable[[Function], Environment]) -> None:
        self.function = function
        self._start = start
        self._turns = threading.Semaphore(MOST_ENVIRONMENTS)
        self._lock = threading.Lock()
        self._idle: list[tuple[Environment, float]] = []  # and since when, the newest last
        self._busy: set[Environment] = set()
        self._generation = 0
        self._is_stopped = False

    def invoke(self, event: bytes) -> bytes:
        if len(event) > LARGEST_EVENT:
            raise EventTooLarge
        with self._turns:
            generation = self._generation
            environment = self._take()
            try:
                answer = environment.invoke(event)
            except BaseException:
                self._end(environment)
                raise
            self._give_back(environment, generation)
            return answer

    def replace(self) -> None:
        """Code has changed: idle environments end now, busy ones after their request."""
        with self._lock:
            self._generation += 1
        self._end_idle(before=float("inf"))

    def stop(self) -> None:
        """Requests that run or wait fail, and later ones too."""
        with self._lock:
            self._generation += 1
            self._is_stopped = True
            for environment in self._busy:
                environment.stop()
        self._end_idle(before=float("inf"))

    def _take(self) -> Environment:
        with self._lock:
            environment = self._idle.pop()[0] if self._idle else None
        if environment is not None and environment.has_ended():
            environment.close()
            return self._take()
        if environment is None:
            environment = self._start(self.function)
        with self._lock:
            self._busy.add(environment)
            if self._is_stopped:
                environment.stop()
        return environment

    def _give_back(self, environment: Environment, generation: int) -> None:
        with self._lock:
            self._busy.discard(environment)
            is_current = generation == self._generation
            if is_current:
                self._idle.append((environment, time.monotonic()))
        if not is_current:
            environment.close()
        self._end_idle(before=time.monotonic() - IDLE_SECONDS)

    def _end(self, environment: Environment) -> None:
        with self._lock:
            self._busy.discard(environment)
        environment.close()

    def _end_idle(self, before: float) -> None:
        with self._lock:
            ended = [environment for environment, since in self._idle if since < before]
            self._idle = [(environment, since) for environment, since in self._idle if since >= before]
        for environment in ended:
            environment.close()
