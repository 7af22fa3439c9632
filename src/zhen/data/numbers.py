"""Check digits: Chinese identity numbers (GB 11643, ISO 7064 MOD 11-2) and payment cards (ISO/IEC 7812, Luhn)."""

from __future__ import annotations

import datetime

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
"""2^(17-i) mod 11 for the places i = 0 … 16 (GB 11643-1999, 5)."""
_CHECK = "10X98765432"

_PROVINCES = frozenset(
    [*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66), 71, 81, 82, 83]
)
"""First two digits (GB/T 2260; 81 to 83: residence permits of people from Hong Kong, Macau, Taiwan)."""

_OLDEST, _YOUNGEST = 1900, 2035

_NETWORKS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (620000, 629999, (16, 17, 18, 19)),  # UnionPay
    (400000, 499999, (13, 16, 19)),  # Visa
    (510000, 559999, (16,)),  # Mastercard
    (222100, 272099, (16,)),  # Mastercard, since 2017
    (340000, 349999, (15,)),  # American Express
    (370000, 379999, (15,)),
    (601100, 601199, (16, 19)),  # Discover
    (644000, 659999, (16, 19)),
    (352800, 358999, (16, 17, 18, 19)),  # JCB
    (180000, 180099, (15,)),
    (213100, 213199, (15,)),
    (300000, 305999, (14,)),  # Diners Club
    (360000, 369999, (14,)),
    (380000, 399999, (14,)),
    (500000, 509999, tuple(range(12, 20))),  # Maestro
    (560000, 589999, tuple(range(12, 20))),
    (630400, 630499, tuple(range(12, 20))),
    (675900, 676399, tuple(range(12, 20))),
)
"""Range of the first six digits, lengths: the ranges that the networks publish for their cards."""


def luhn_check(digits: str) -> bool:
    """Whether the last digit is right: from the right every second digit is doubled, cross sums add to a ten."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_bank_card(digits: str) -> bool:
    """Whether a network gives cards of this prefix and length."""
    prefix = int(digits[:6])
    return any(low <= prefix <= high and len(digits) in lengths for low, high, lengths in _NETWORKS)


def identity_check(number: str) -> bool:
    """Whether 18 characters are a Chinese identity number: province, date of birth and check digit are possible."""
    if int(number[:2]) not in _PROVINCES:
        return False
    try:
        born = datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False))
    return _OLDEST <= born.year <= _YOUNGEST and number[17].upper() == _CHECK[total % 11]
