"""Slows a worker down when everything fails: ten failures in a row of different tasks are not the tasks' fault."""

from __future__ import annotations

THRESHOLD = 10
"""How many failures in a row, of different tasks, put the brake on."""
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


class Brake:
    """Counts failures in a row, and says when a worker may take a task. All times are those of one clock."""

    def __init__(self) -> None:
        self._failed: set[str] = set()
        self._pause = 0.0
        self.resumes_at = float("-inf")
        """When the next task may be taken."""

    @property
    def is_on(self) -> bool:
        """Whether only one task at a time may be tried."""
        return self._pause > 0

    def note(self, *, is_failure: bool, task: str, begun_at: float, now: float) -> bool:
        """Notes the outcome of a task, and returns whether the brake has just gone on or off.

        While the brake is on, a failure makes the next pause longer only if the work began after the last pause: what
        was in work when the brake went on says nothing new.
        """
        if not is_failure:
            was_on = self.is_on
            self._failed.clear()
            self._pause, self.resumes_at = 0.0, float("-inf")
            return was_on
        was_on = self.is_on
        if not was_on:
            self._failed.add(task)
            if len(self._failed) < THRESHOLD:
                return False
        elif begun_at < self.resumes_at:
            return False
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        self.resumes_at = now + self._pause
        return not was_on
