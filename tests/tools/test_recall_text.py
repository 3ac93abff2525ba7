"""The text of facts that are told again."""

from __future__ import annotations

import re
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from recall_text import NAMES, REPEATS, recall_text  # noqa: E402


WINDOW = 100
"""Facts that a window of 1,024 tokens tells."""


class RecallTextTest(unittest.TestCase):
    def setUp(self) -> None:
        self.told = re.findall(r"([A-Z][a-z]+)(?=[ :;-]|$)[^A-Z]*?(\d+)", recall_text(60000, 3))

    def test_wherever_a_window_ends_most_facts_were_told_in_it_and_far_back(self) -> None:
        known = far = 0
        ends = range(WINDOW, len(self.told))
        for end in ends:
            before = self.told[end - WINDOW : end]
            if self.told[end] in before:
                known += 1
                far += before[::-1].index(self.told[end]) >= 25
        self.assertGreater(known / len(ends), 0.6)
        self.assertLess(known / len(ends), 0.85)
        self.assertGreater(far / known, 0.4)

    def test_no_window_is_like_another(self) -> None:
        """Shares of what was told before, of ten stretches: a text of blocks would go up and down with them."""
        shares = []
        for begin in range(WINDOW, len(self.told) - 60, 60):
            fresh = [fact not in self.told[max(0, at - WINDOW) : at] for at, fact in enumerate(self.told) if begin <= at < begin + 60]
            shares.append(1 - sum(fresh) / len(fresh))
        self.assertGreater(len(shares), 10)
        self.assertGreater(min(shares), 0.5)
        self.assertLess(max(shares), 0.95)

    def test_a_name_has_one_number_at_a_time(self) -> None:
        numbers: dict[str, str] = {}
        changed = 0
        for name, number in self.told:
            changed += numbers.get(name, number) != number
            numbers[name] = number
        self.assertEqual(len(numbers), len(NAMES))
        self.assertLess(changed / len(self.told), 1.2 / REPEATS)

    def test_a_seed_is_a_text(self) -> None:
        self.assertEqual(recall_text(5000, 1), recall_text(5000, 1))
        self.assertNotEqual(recall_text(5000, 1), recall_text(5000, 2))


if __name__ == "__main__":
    unittest.main()
