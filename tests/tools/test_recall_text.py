"""The text of facts that are told again."""

from __future__ import annotations

import re
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from recall_text import PEOPLE, REPEATS, recall_text  # noqa: E402


class RecallTextTest(unittest.TestCase):
    def test_every_fact_is_told_again_in_another_order(self) -> None:
        lists = recall_text(20000, 3).strip().split("\n\n")
        self.assertEqual(len(lists) % REPEATS, 0)
        for begin in range(0, len(lists), REPEATS):
            numbers = [re.findall(r"\d+", told) for told in lists[begin : begin + REPEATS]]
            for told in numbers:
                self.assertEqual(len(told), PEOPLE)
                self.assertEqual(sorted(told), sorted(numbers[0]))
            self.assertGreater(len({tuple(told) for told in numbers}), 1)

    def test_a_seed_is_a_text(self) -> None:
        self.assertEqual(recall_text(5000, 1), recall_text(5000, 1))
        self.assertNotEqual(recall_text(5000, 1), recall_text(5000, 2))


if __name__ == "__main__":
    unittest.main()
