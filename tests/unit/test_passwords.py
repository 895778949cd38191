from tools import passwords


def test_the_list_of_common_passwords_is_what_its_source_gives() -> None:
    assert passwords.FILE.read_text() == passwords.text(), "`make passwords` writes it anew"


def test_it_has_the_most_common_ones_and_none_that_is_too_short_anyway() -> None:
    listed = passwords.text().split("\n")[1:-1]
    assert {"password", "12345678", "qwertyuiop", "iloveyou", "password1"} <= set(listed)
    assert len(listed) > 3000
    assert all(len(password) >= 8 for password in listed)
    assert all(password == password.lower() for password in listed), "passwords are compared in lower case"
