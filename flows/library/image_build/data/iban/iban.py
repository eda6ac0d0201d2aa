"""Says which of its arguments are account numbers (IBAN, ISO 13616) with the right check digits."""

import re
import sys


def is_valid(number: str) -> bool:
    number = number.replace(" ", "").upper()
    if not re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", number):
        return False
    digits = "".join(str(int(character, 36)) for character in number[4:] + number[:4])
    return int(digits) % 97 == 1


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(argument, "is valid" if is_valid(argument) else "is not valid")
