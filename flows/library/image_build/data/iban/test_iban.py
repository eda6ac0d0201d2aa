import unittest

from iban import is_valid


class TestIban(unittest.TestCase):
    def test_check_digits_count(self) -> None:
        assert is_valid("GB82 WEST 1234 5698 7654 32")
        assert not is_valid("GB83 WEST 1234 5698 7654 32")

    def test_what_is_no_number_is_not_valid(self) -> None:
        for wrong in ("", "GB", "82GBWEST12345698765432", "GB82-WEST-1234-5698"):
            assert not is_valid(wrong)
