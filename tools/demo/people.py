"""Invented people for `make demo`: the same ones every time, with telephone numbers that are reserved for fiction."""

import random
import unicodedata
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

Person = dict[str, Any]

# Names of women, of men, and of families.
NAMES = (
    ("Amara Chidinma Ngozi Adaeze", "Emeka Chukwudi Obinna Tunde", "Okafor Adeyemi Nwosu Balogun"),
    ("Wanjiru Achieng Njeri Atieno", "Kamau Otieno Mwangi Kiprop", "Odhiambo Kariuki Mutua Cheruiyot"),
    ("Layla Noor Yasmin Salma", "Omar Karim Youssef Tariq", "Haddad Mansour Rahman Aziz"),
    ("Elif Ayşe Zeynep Defne", "Emre Mehmet Çağlar Burak", "Demir Kaya Şahin Öztürk"),
    ("Priya Ananya Lakshmi Meera", "Arjun Rohan Vikram Sanjay", "Sharma Iyer Patel Banerjee"),
    ("Mei Xiuying Lan Yating", "Wei Jun Haoran Zihan", "Chen Wang Lin Huang"),
    ("Yuki Haruka Sakura Aiko", "Haruto Kenji Ren Takumi", "Tanaka Satō Yamamoto Kobayashi"),
    ("Ji-woo Seo-yeon Min-ji Ha-eun", "Min-jun Ji-ho Do-yun Hyun-woo", "Kim Park Choi Jeong"),
    ("Linh Thảo Mai Hương", "Minh Đức Tuấn Quân", "Nguyễn Trần Phạm Lê"),
    ("Leilani Moana Ana Sina", "Tane Manu Sione Malakai", "Kealoha Tupou Faleolo Taufa"),
    ("Sofía Valentina Camila Lucía", "Mateo Santiago Diego Andrés", "García Hernández Rojas Muñoz"),
    ("Maria Inês Beatriz Joana", "João Tiago Rui Nuno", "Silva Ferreira Sousa Araújo"),
    ("Élodie Camille Chloé Aurélie", "Théo Hugo François Rémi", "Lefèvre Moreau Dubois Girard"),
    ("Lena Johanna Käthe Miriam", "Lukas Jürgen Matthias Jonas", "Müller Schäfer Vogel Groß"),
    ("Agnieszka Zofia Małgorzata Kasia", "Łukasz Paweł Wojciech Jakub", "Nowak Wójcik Mazur Kaczmarek"),
    ("Ingrid Astrid Linnéa Freja", "Lars Sven Åke Nils", "Lindström Åberg Johansson Berg"),
    ("Siobhán Aoife Niamh Róisín", "Seán Cillian Oisín Pádraig", "O'Brien Murphy Byrne Gallagher"),
    ("Zoë Emily Charlotte Grace", "Oliver Thomas Henry Jack", "Brown Hughes Clarke Wright"),
)

# Telephone numbers, each # a digit; cities; streets.
PLACES = (
    ("+44 20 7946 0###", "London", ("{} Harbour Street", "{} Mill Lane", "{} Orchard Road", "{} Station Parade")),
    ("+1 212 555 01##", "New York", ("{} Maple Avenue", "{} Riverside Drive", "{} Chestnut Street")),
    ("+33 1 99 00 ## ##", "Paris", ("{} rue des Lilas", "{} avenue du Parc", "{} quai des Tilleuls")),
    ("+49 30 23125 ###", "Berlin", ("Lindenweg {}", "Gartenstraße {}", "Am Markt {}")),
    ("+46 8 465 004 ##", "Stockholm", ("Björkgatan {}", "Strandvägen {}", "Kyrkogatan {}")),
    ("+61 2 5550 ####", "Sydney", ("{} Banksia Street", "{} Ocean View Road", "{} Wattle Grove")),
)

FAMILY_DOCTOR, CHILDREN_S_DOCTOR = "General practice", "Paediatrics"
SPECIALTIES = (
    *(FAMILY_DOCTOR, CHILDREN_S_DOCTOR, "Cardiology", "Dermatology", "Endocrinology", "Gastroenterology", "Geriatrics"),
    *("Gynaecology", "Haematology", "Infectious diseases", "Nephrology", "Neurology", "Oncology", "Ophthalmology"),
    *("Orthopaedics", "Otolaryngology", "Physiotherapy", "Psychiatry", "Pulmonology", "Rheumatology", "Urology"),
)
FIRST_BIRTHDAY, LAST_BIRTHDAY = date(1932, 1, 1), date(2025, 12, 31)
CHILDREN_FROM = date(2010, 1, 1)

USERS = (
    {"name": "Grace Adeyemi", "email": "grace.adeyemi.demo@example.org"},
    {"name": "Tomás Herrera", "email": "tomas.herrera.demo@example.org"},
    {"name": "Mei Tanaka", "email": "mei.tanaka.demo@example.org"},
)


def doctors(count: int) -> list[Person]:
    """Told apart by their e-mail addresses."""
    chance = _chance("doctors")
    found = []
    for number in range(count):
        name, _ = _name(chance)
        phone, _ = _place(chance)
        email = f"dr.{_address(name)}.{number}@example.org"
        specialty = SPECIALTIES[number % len(SPECIALTIES)]
        found.append({"name": f"Dr. {name}", "specialty": specialty, "phone": phone, "email": email})
    return found


def patients(of_user: int, count: int) -> list[Person]:
    """Told apart by their names and dates of birth. Not everybody has told everything."""
    chance = _chance(f"patients {of_user}")
    found: dict[object, Person] = {}
    while len(found) < count:
        name, gender = _name(chance)
        phone, address = _place(chance)
        born = FIRST_BIRTHDAY + timedelta(chance.randrange((LAST_BIRTHDAY - FIRST_BIRTHDAY).days))
        patient = {"name": name, "date_of_birth": born.isoformat()}
        optional = {"phone": phone, "email": f"{_address(name)}@example.org", "address": address, "gender": gender}
        found[name, born] = patient | {field: value for field, value in optional.items() if chance.random() < 0.85}
    return list(found.values())


def assigned(patient: Person, doctors: list[Person]) -> list[Person]:
    """A doctor for everything, and up to two more."""
    chance = _chance(f"{patient['name']} {patient['date_of_birth']}")
    is_child = patient["date_of_birth"] >= CHILDREN_FROM.isoformat()
    first = CHILDREN_S_DOCTOR if is_child else FAMILY_DOCTOR
    others = [doctor for doctor in doctors if doctor["specialty"] not in (FAMILY_DOCTOR, CHILDREN_S_DOCTOR)]
    return [
        chance.choice([doctor for doctor in doctors if doctor["specialty"] == first]),
        *chance.sample(others, chance.choice([0, 0, 0, 0, 1, 2])),
    ]


def _chance(of_what: str) -> random.Random:
    return random.Random(of_what)  # noqa: S311 - foreseeable is what it should be


def _name(chance: random.Random) -> tuple[str, str]:
    women, men, families = chance.choice(NAMES)
    gender = chance.choice(["female", "male"])
    given = chance.choice((women if gender == "female" else men).split())
    return f"{given} {chance.choice(families.split())}", gender


def _place(chance: random.Random) -> tuple[str, str]:
    """A telephone number and an address in the same city."""
    phone, city, streets = chance.choice(PLACES)
    digits = "".join(str(chance.randrange(10)) if character == "#" else character for character in phone)
    return digits, f"{chance.choice(streets).format(chance.randint(1, 120))}, {city}"


def _address(name: str) -> str:
    """The name as the first part of an e-mail address."""
    return "".join(_letters(name.translate(str.maketrans("ŁłĐß", "LlDs"))))


def _letters(name: str) -> Iterator[str]:
    for character in unicodedata.normalize("NFKD", name).lower():
        if character.isascii() and (character.isalpha() or character in " -"):
            yield "." if character == " " else character
