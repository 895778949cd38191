"""`make passwords`: writes the list of passwords that are refused for being common.

From zxcvbn's list of 30,000, in the order of how often they were found; without those that are too short anyway.
"""

from zxcvbn.frequency_lists import FREQUENCY_LISTS

from local.settings import PROJECT

FILE = PROJECT / "layers/common/healthcare/accounts/common_passwords.txt"
SHORTEST = 8


def text() -> str:
    """One a line, a line break before the first and after the last."""
    passwords = [password for password in FREQUENCY_LISTS["passwords"] if len(password) >= SHORTEST]
    return "\n".join(["", *passwords, ""])


if __name__ == "__main__":
    FILE.write_text(text())
    print(f"wrote {FILE.relative_to(PROJECT)}")
