"""The one form that all refused settings have."""


def require(holds: bool, key: str, value: object, expected: str) -> None:
    """Raise ValueError in the one form all refused settings have."""
    if not holds:
        raise ValueError(f"{key}={value}: expected {expected}")


def require_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    require(value in choices, key, value, f"one of {', '.join(choices)}")
