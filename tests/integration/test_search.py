"""Searches against a model that looks at every name, in lists long enough for each way a search can go."""

from collections.abc import Callable
from unicodedata import category, normalize
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from healthcare.fields import Found, WordAndId, encode_word_cursor
from tests.conftest import Database
from tests.gateway import Client

MANY = 1000  # hits of a word, from which on a search does not put them all in order
NUMBER = 4500


def name(n: int) -> str:
    """The name of the n-th patient or doctor: some words are few, many, dense, far back, alike, or with no other."""
    words = ["anna" if n % 3 == 0 else "bela" if n % 3 == 1 else "carlos"]
    words += [f"dense{n}"] * (n % 2) + [f"seldom{n}"] * (n % 4 == 1) + [f"back{n}"] * (n > NUMBER - 1.2 * MANY)
    words += ["below"] * (n <= MANY - 1) + ["exact"] * (n <= MANY) + ["above"] * (n <= MANY + 1)
    words += [f"less{n}"] * (n <= MANY - 1) + [f"just{n}"] * (n <= MANY) + [f"more{n}"] * (n <= MANY + 1)
    words += ["smith", "smithers", "smithson"][: n % 5] + ["rare"] * (n % 700 == 0) + ["late"] * (n > NUMBER - 3)
    words += [f"w{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] * (n % 600 == 0)
    return " ".join(words)


NAMES = {n: name(n) for n in range(1, NUMBER + 1)}
WORDS = {n: sorted(of.split()) for n, of in NAMES.items()}
SPECIALTIES = {n: "Common" if n % 3 else "Few" if n % 300 else "Other" for n in NAMES}
BEGINNINGS = [
    *("a", "anna", "bela", "carlos", "b", "d", "dense", "dense1", "dense45", "seldom", "seldom1", "back", "back44"),
    *("below", "exact", "above", "less", "just", "more", "s", "smith", "smithers", "smiths", "rare", "late", "l"),
    *("w", "wa", "wz", "nobody", "ann", "zzz"),
]


def orders(words: list[str], specialty: str | None = None) -> list[list[WordAndId]]:
    """The hits, once for each of `words`: by the first word of the name that begins with it, then by id."""
    lists: list[list[WordAndId]] = [[] for _ in words]
    for n, of in WORDS.items():
        if (specialty is None or SPECIALTIES[n] == specialty) and all(any(map(starts(word), of)) for word in words):
            for hits, word in zip(lists, words, strict=True):
                hits.append(WordAndId(next(filter(starts(word), of)), n))
    return [sorted(hits) for hits in lists]


def expected(words: list[str], after: WordAndId, limit: int, specialty: str | None = None) -> list[list[int]]:
    return [[hit.id for hit in hits if hit > after][:limit] for hits in orders(words, specialty)]


def starts(beginning: str) -> Callable[[str], bool]:
    return lambda word: word.startswith(beginning)


BEGINNING = WordAndId("", 0)


@pytest.fixture
def full(ann: Client, bob: Client, database: Database) -> Client:
    """Ann with patients of these names and ids, others of Bob's with the same, and such doctors."""
    with database.connect() as connection:
        connection.execute("ALTER TABLE patients DISABLE TRIGGER audit")
        connection.execute("ALTER TABLE doctors DISABLE TRIGGER audit")
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE named (id bigint, name text, specialty text)")
            with cursor.copy("COPY named FROM STDIN") as copy:
                for n, text in NAMES.items():
                    copy.write_row((n, text, SPECIALTIES[n]))
        mine = "INSERT INTO patients (id, owner_id, name) SELECT id, %s, name FROM named ORDER BY id"
        connection.execute(mine, [ann.user["id"]])
        others = "INSERT INTO patients (id, owner_id, name) SELECT 100000 + id, %s, name FROM named ORDER BY id"
        connection.execute(others, [bob.user["id"]])
        connection.execute("INSERT INTO doctors (id, name, specialty) SELECT * FROM named ORDER BY id")
        connection.execute("SELECT setval('patients_id_seq', 200000), setval('doctors_id_seq', 200000)")
        connection.execute("ANALYZE")
        connection.execute("SELECT pg_stat_force_next_flush()")
    return ann


def ids(client: Client, url: str, words: list[str], after: WordAndId, limit: int, **more: str) -> list[int]:
    query = "".join(f"&{field}={quote(value)}" for field, value in more.items())
    cursor = f"&cursor={encode_word_cursor(Found(id=after.id, word=after.word))}" if after.id else ""
    page = client.get(f"{url}?q={quote(' '.join(words))}&limit={limit}{cursor}{query}").expect(200)
    return [item["id"] for item in page["items"]]


def test_a_search_finds_what_a_look_at_every_name_does(full: Client) -> None:
    words = st.lists(st.sampled_from(BEGINNINGS), min_size=1, max_size=3)
    places = st.none() | st.floats(0, 1, exclude_max=True)
    specialties = st.sampled_from([None, "Common", "Few", "Other"])

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(words=words, place=places, limit=st.sampled_from([1, 20, 100]), specialty=specialties)
    @example(words=["anna", "bela"], place=None, limit=20, specialty=None)
    @example(words=["back"], place=None, limit=100, specialty=None)
    @example(words=["back", "seldom"], place=None, limit=100, specialty="Few")
    @example(words=["w"], place=None, limit=1, specialty=None)
    @example(words=["w", "rare"], place=0.5, limit=100, specialty=None)
    def check(words: list[str], place: float | None, limit: int, specialty: str | None) -> None:
        hits = orders(words)[0]
        after = BEGINNING if place is None or not hits else hits[int(place * len(hits))]
        assert ids(full, "/api/patients", words, after, limit) in expected(words, after, limit)
        filters = {"specialty": specialty.upper()} if specialty else {}
        assert ids(full, "/api/doctors", words, after, limit, **filters) in expected(words, after, limit, specialty)

    check()


def test_a_walk_through_the_pages_of_a_search_meets_every_hit_once(full: Client) -> None:
    for words in ("anna", "dense", "back", "exact", "just", "smith", "w", "rare", "anna smith", "s an", "w wa"):
        for url in ("/api/patients", "/api/doctors"):
            found = [item["id"] for item in full.walk(f"{url}?q={quote(words)}&limit=100")]
            assert found in expected(words.split(), BEGINNING, NUMBER), (url, words)


def test_the_rarest_word_leads_and_goes_on_leading_when_another_becomes_rarer(full: Client, database: Database) -> None:
    url = "/api/patients?q=late%20s&limit=1"
    read = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'patient_words'"
    hits = [hit.id for hit in orders(["late", "s"])[0]]
    first = full.get(url).expect(200)
    assert [item["id"] for item in first["items"]] == hits[:1]
    with database.connect() as connection:
        connection.execute("ALTER TABLE patients DISABLE TRIGGER audit")
        connection.execute("DELETE FROM patients WHERE owner_id = %s AND id < %s", [full.user["id"], hits[1]])
    table_scans(full, "patients", database)
    before = int(str(database.value(read)))
    following = full.get(f"{url}&cursor={first['next_cursor']}").expect(200)
    table_scans(full, "patients", database)
    assert [item["id"] for item in following["items"]] == hits[1:2]
    assert int(str(database.value(read))) - before < 10


def table_scans(client: Client, folder: str, database: Database) -> object:
    """How often a table was read from end to end, by PostgreSQL's own count, which has what functions do as well."""
    connection = client.gateway.environments[folder].modules["healthcare.database.connection"].connect()
    connection.execute("SELECT pg_stat_force_next_flush()")
    return database.value("SELECT sum(seq_scan) FROM pg_stat_user_tables WHERE relname ~ '^(patient|doctor)'")


def test_no_search_reads_a_table_from_end_to_end(full: Client, database: Database) -> None:
    for url in ("/api/patients?q=", "/api/doctors?q=", "/api/doctors?specialty=few&q="):
        folder = url.split("?")[0].removeprefix("/api/")
        full.get(url).expect(200)
        before = table_scans(full, folder, database)
        for words in (*BEGINNINGS, "anna bela", "back dense", "anna rare"):
            full.get(f"{url}{quote(words)}").expect(200)
            assert table_scans(full, folder, database) == before, (url, words)


def test_creating_and_renaming_reads_no_table_from_end_to_end(full: Client, database: Database) -> None:
    for folder in ("patients", "doctors"):
        body = {"name": "Ann"} | ({"specialty": "Few"} if folder == "doctors" else {})
        full.post(f"/api/{folder}", body).expect(201)
        before = table_scans(full, folder, database)
        row = full.post(f"/api/{folder}", body).expect(201)
        full.patch(f"/api/{folder}/{row['id']}", {"name": "Zoë"}).expect(200)
        assert table_scans(full, folder, database) == before, folder


def test_a_page_of_a_long_list_reads_no_more_than_a_page(full: Client, database: Database) -> None:
    """Also where the average list is little more than a page, and to sort all of it looks cheap to the planner."""
    with database.connect() as connection:
        connection.execute(
            """
            ALTER TABLE mappings DISABLE TRIGGER audit;
            INSERT INTO users (id, name, email, password_hash)
            SELECT 1000 + n, 'User', n || '@example.org', 'none' FROM generate_series(1, 1000) n;
            INSERT INTO patients (owner_id, name) SELECT 1001 + n % 1000, 'Ann' FROM generate_series(1, 20000) n;
            INSERT INTO mappings (owner_id, patient_id, doctor_id)
            SELECT owner_id, id, 1 FROM patients WHERE id <= 4500 OR id > 200000 ORDER BY id % 4999;
            """
        )
        connection.execute("VACUUM ANALYZE mappings")
        connection.execute("SELECT pg_stat_force_next_flush()")
    read = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'mappings'"
    full.get("/api/mappings").expect(200)
    table_scans(full, "mappings", database)
    before = database.value(read)
    assert len(full.get("/api/mappings").expect(200)["items"]) == 20
    table_scans(full, "mappings", database)
    assert int(str(database.value(read))) - int(str(before)) < 100


# A name of each script, with marks where the script has them, and what finds it.
NAMES_OF_SCRIPTS = {
    "Latin": ("José Ñandú Strauß", "JOSÉ ñan STRAUSS"),
    "Greek": ("Γιώργος Παπαδόπουλος", "ΓΙΏΡΓΟΣ παπαδόπουλοσ"),
    "Cyrillic": ("Фёдор Щедрин", "ФЁДОР щед"),
    "Armenian": ("Արամ Խաչատրյան", "ԱՐԱՄ խաչ"),
    "Georgian": ("გიორგი მაისურაძე", "ᲒᲘᲝᲠᲒᲘ მაის"),
    "Turkish": ("İpek Yıldız", "i̇pek YILDIZ ipe"),
    "Hebrew": ("שָׁלוֹם כֹּהֵן בֶּן־דָּוִד", "שָׁלוֹם כֹּהֵן דָּוִד"),
    "Arabic": ("مُحَمَّد عبد الله", "مُحَمَّد الله"),
    "Devanagari": ("लक्ष्मी नारायण शर्मा", "लक्ष्मी नारायण शर्मा"),
    "Bengali": ("শ্রীমতী বন্দ্যোপাধ্যায় দেবী", "শ্রীমতী বন্দ্যো দেবী"),
    "Tamil": ("தமிழ்ச்செல்வி முருகன் சுப்பிரமணியன்", "தமிழ்ச்செல்வி முருகன் சுப்பிர"),
    "Telugu": ("శ్రీనివాస్ రెడ్డి", "శ్రీనివాస్ రెడ్"),
    "Sinhala": ("ගුණසේකර", "ගුණසේ"),
    "Thai": ("สมชาย ใจดี", "สมชาย ใจดี"),
    "Lao": ("ຄຳພູ ວົງສາ", "ຄຳພູ ວົງສາ"),
    "Khmer": ("សុខា ចាន់ធី", "សុខា ចាន់"),
    "Burmese": ("အောင်ဆန်း စုကြည်", "အောင်ဆန်း စုကြည်"),
    "Tibetan": ("བསྟན་འཛིན་རྒྱ་མཚོ", "བསྟན འཛིན"),
    "Ethiopic": ("አበበ ቢቂላ", "አበበ ቢቂ"),
    "Han": ("王小明", "王小"),
    "Japanese": ("葛󠄀城 ミユキ", "葛󠄀城 ﾐﾕｷ"),
    "Hangul": ("김민수", "김민"),
    "Cherokee": ("ᏣᎳᎩ", "ꮳꮃ"),
}


def test_names_of_many_scripts_are_found_in_any_case(ann: Client, subtests: pytest.Subtests) -> None:
    ids = {script: ann.create("/api/patients", name=name)["id"] for script, (name, _) in NAMES_OF_SCRIPTS.items()}
    for script, (name, q) in NAMES_OF_SCRIPTS.items():
        with subtests.test(script):
            for given in (q, name, name.upper(), name.lower(), normalize("NFD", name)):
                found = ann.get(f"/api/patients?q={quote(given)}").expect(200)["items"]
                assert [item["id"] for item in found] == [ids[script]], given


def test_digits_are_the_same_in_any_width_and_none_vanishes(ann: Client) -> None:
    ward, other = (ann.create("/api/patients", name=name)["id"] for name in ("Ward 123", "جناح ١٢٣"))
    for q, found in {"123": ward, "１２": ward, "١٢٣": other}.items():
        assert [item["id"] for item in ann.get(f"/api/patients?q={quote(q)}").json["items"]] == [found]
    assert ann.get(f"/api/patients?q={quote('४५')}").json["items"] == []


@pytest.mark.parametrize("q", ["", " ", "%", "-_-", "...", "🙂", "❤️", "👩‍⚕️", "#️⃣", "´"])
def test_without_a_word_nothing_is_found(ann: Client, q: str) -> None:
    for name in (f"Ann {q}".strip(), "Bob"):
        ann.create("/api/patients", name=name)
        ann.create("/api/doctors", name=name, specialty="Surgery")
    for url in ("/api/patients?q=", "/api/doctors?q=", "/api/doctors?specialty=surgery&q="):
        assert ann.get(url + quote(q)).expect(200) == {"items": [], "next_cursor": None}


def test_a_word_is_a_run_of_letters_marks_and_numbers(database: Database) -> None:
    characters = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code <= 0xDFFF]
    assigned = [character for character in characters if category(character) not in ("Cn", "Co")]
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT c, search_words('a' || c || 'b') <> 'a b' FROM unnest(%s::text[]) AS c", [assigned]
        )
        in_words = {character for character, is_in_word in rows if is_in_word}
    # A keycap and the choice of how an emoji looks are marks, but of no word.
    assert in_words == {c for c in assigned if category(c)[0] in "LMN"} - set("\u20e3\ufe0e\ufe0f")


def test_a_word_is_the_same_in_upper_and_lower_case(database: Database) -> None:
    letters = [chr(code) for code in range(0x110000) if category(chr(code))[0] == "L"]
    pairs = [(one, one.swapcase()) for one in letters if one.swapcase() != one and len(one.swapcase()) == 1]
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT a, b FROM unnest(%s::text[], %s::text[]) AS pair (a, b) WHERE search_words(a) <> search_words(b)",
            [[one for one, _ in pairs], [other for _, other in pairs]],
        )
        assert rows.fetchall() == []


def test_the_longest_names_are_found(ann: Client) -> None:
    for name in ("ﬃ" * 200, "𠀀" * 200, "ß" * 200, "ﷺ" * 200, " ".join("abcdefghij" * 10), "x" * 200):
        patient = ann.create("/api/patients", name=name)
        found = ann.get(f"/api/patients?q={quote(name.split()[0])}&limit=1").expect(200)
        assert patient["id"] in [item["id"] for item in ann.walk(f"/api/patients?q={quote(name.split()[0])}&limit=1")]
        if found["next_cursor"]:
            ann.get(f"/api/patients?q={quote(name[:1])}&cursor={found['next_cursor']}").expect(200)


def test_at_most_eight_words_are_searched_for(ann: Client) -> None:
    eight = "लक्ष्मी நாராயணன் শ্রীমতী שָׁלוֹם এক দুই তিন চার"
    for url in ("/api/patients?q=", "/api/doctors?q="):
        ann.get(url + quote(eight)).expect(200)
        ann.get(url + quote(f"{eight} এক")).expect(200)  # the same once more
        problem = ann.get(url + quote(f"{eight} পাঁচ")).refuse(422, "validation")
        assert problem["errors"] == [{"pointer": "query/q", "detail": "Text should have at most 8 words"}]


def test_a_name_with_two_words_of_one_beginning_is_listed_once_at_the_first(ann: Client) -> None:
    for name in ("Annie Anna", "Anna", "Anne Zoë Annabel", "An"):
        ann.create("/api/patients", name=name)
    for limit in (1, 2, 100):
        names = [item["name"] for item in ann.walk(f"/api/patients?q=ann&limit={limit}")]
        assert names == ["Annie Anna", "Anna", "Anne Zoë Annabel"]
        names = [item["name"] for item in ann.walk(f"/api/patients?q=an&limit={limit}")]
        assert names == ["An", "Annie Anna", "Anna", "Anne Zoë Annabel"]


def test_a_walk_meets_what_stood_there_throughout_whatever_comes_and_goes(ann: Client) -> None:
    ids = [ann.create("/api/patients", name=f"Ann {letter * 2}")["id"] for letter in "dbca"]
    met: list[int] = []
    url = "/api/patients?q=ann&limit=1"
    for letter in "abcdefgh":
        page = ann.get(url).expect(200)
        met += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        gone = ann.create("/api/patients", name=f"Ann Anna {letter}")["id"]
        ann.delete(f"/api/patients/{gone}").expect(204)
        if letter == "b":
            ann.delete(f"/api/patients/{ids[3]}").expect(204)
        ann.create("/api/patients", name="Aaron")
        url = f"/api/patients?q=ann&limit=1&cursor={page['next_cursor']}"
    assert met == ids[:3]


def test_a_cursor_of_another_search_or_of_nobody_does_no_harm(full: Client) -> None:
    cursors = [encode_word_cursor(Found(id=7, word=word)) for word in ("", "zzz", "a", "anna", "\U0010ffff" * 200)]
    cursors += [f"{cursors[0]}{more}" for more in ("AA", "____", "AAAA" * 266 + "AAA", "7c" * 200)]
    for url in ("/api/patients?", "/api/doctors?", "/api/doctors?specialty=few&"):
        for q in ("", "&q=anna", "&q=anna%20smith", "&q=%25"):
            for cursor in cursors:
                items = full.get(f"{url}cursor={cursor}{q}").expect(200)["items"]
                assert all("anna" in item["name"] for item in items) or "anna" not in q
    for cursor in ("AA", "AAAAAAAAAAB", "AAAAAAAAAAg" + "A" * 1068, "AAAAAAAAAAgA", "AAAAAAAAAAgAA=="):
        problem = full.get(f"/api/patients?q=a&cursor={cursor}").refuse(422, "validation")
        assert [error["pointer"] for error in problem["errors"]] == ["query/cursor"]


def test_the_words_of_a_row_go_with_it_and_change_with_it(ann: Client, database: Database) -> None:
    patient = ann.create("/api/patients", name="Zoë Smith")
    doctor = ann.create("/api/doctors", name="Zoë Smith", specialty="Surgery")
    ann.patch(f"/api/patients/{patient['id']}", {"name": "Zoë Jones"}).expect(200)
    ann.patch(f"/api/doctors/{doctor['id']}", {"specialty": "Cardiology"}).expect(200)
    assert database.value("SELECT array_agg(word || ' in ' || words ORDER BY word) FROM patient_words") == [
        "jones in jones zoë",
        "zoë in jones zoë",
    ]
    assert database.value(
        "SELECT array_agg(specialty_key || ': ' || word ORDER BY specialty_key, word) FROM doctor_words"
    ) == [
        ": smith",
        ": zoë",
        "cardiology: smith",
        "cardiology: zoë",
    ]
    assert ann.get("/api/doctors?q=zo&specialty=surgery").json["items"] == []
    assert len(ann.get("/api/doctors?q=zo&specialty=cardiology").json["items"]) == 1
    ann.delete(f"/api/patients/{patient['id']}").expect(204)
    ann.delete(f"/api/doctors/{doctor['id']}").expect(204)
    assert database.value("SELECT (SELECT count(*) FROM patient_words) + (SELECT count(*) FROM doctor_words)") == 0
