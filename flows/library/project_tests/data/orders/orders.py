"""What an order costs."""


def total(lines: list[tuple[int, float]]) -> float:
    """The sum of amounts times prices, rounded to cents."""
    return round(sum(amount * price for amount, price in lines), 2)


def with_discount(amount: float, code: str | None) -> float:
    """Ten percent off with the code SPRING."""
    return round(amount * 0.9, 2) if code == "SPRING" else amount
