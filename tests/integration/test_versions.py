"""ETag, If-Match and If-None-Match, on each kind of resource that has a version."""

from collections.abc import Callable

import pytest

from tests.gateway import Client


@pytest.fixture(params=["patient", "doctor", "account"])
def url(ann: Client, request: pytest.FixtureRequest) -> str:
    if request.param == "patient":
        return f"/api/patients/{ann.create('/api/patients', name='Zoë')['id']}"
    if request.param == "doctor":
        return f"/api/doctors/{ann.create('/api/doctors', name='Who', specialty='Time')['id']}"
    return "/api/auth/me"


def test_a_known_version_is_not_sent_again(ann: Client, url: str) -> None:
    etag = ann.get(url).headers["ETag"]
    for header in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = ann.get(url, headers={"If-None-Match": header})
        assert (answer.status, answer.text, answer.headers["ETag"]) == (304, "", etag)
    ann.get(url, headers={"If-None-Match": '"0"'}).expect(200)
    ann.get(url, headers={"If-None-Match": "nonsense"}).expect(200)
    ann.get(url, headers={"If-None-Match": "W/*"}).expect(200)
    ann.get(url, lines={"If-None-Match": ['"other"', etag]}).expect(304)


def test_a_lost_update_is_refused(ann: Client, url: str) -> None:
    etag = ann.get(url).headers["ETag"]
    first = ann.patch(url, {"name": "First"}, headers={"If-Match": etag})
    assert first.expect(200)["name"] == "First"
    assert first.headers["ETag"] != etag
    ann.patch(url, {"name": "Second"}, headers={"If-Match": etag}).refuse(412, "stale")
    assert ann.get(url).json["name"] == "First"
    ann.patch(url, {"name": "Second"}, lines={"If-Match": [etag, '"0"']}).refuse(412, "stale")
    ann.patch(url, {"name": "Third"}, headers={"If-Match": f"{etag}, {first.headers['ETag']}"}).expect(200)


def test_without_if_match_the_last_writer_wins(ann: Client, url: str) -> None:
    ann.patch(url, {"name": "First"}).expect(200)
    ann.patch(url, {"name": "Second"}, headers={"If-Match": "*"}).expect(200)
    assert ann.get(url).json["name"] == "Second"


def test_a_weak_or_foreign_etag_never_matches_a_write(ann: Client, url: str) -> None:
    for header in ('W/"1"', '"somebody-elses"', '"99999999999999999999"', '""'):
        ann.patch(url, {"name": "First"}, headers={"If-Match": header}).refuse(412, "stale")


def test_if_match_that_is_no_etag_is_invalid(ann: Client, url: str) -> None:
    for header in ("1", "", '"1', "*, *"):
        problem = ann.patch(url, {"name": "First"}, headers={"If-Match": header}).refuse(422, "validation")
        assert problem["errors"][0]["pointer"] == "header/if-match"


@pytest.mark.parametrize("method", ["put", "delete"])
def test_put_and_delete_look_at_the_version_too(ann: Client, method: str) -> None:
    url = f"/api/doctors/{ann.create('/api/doctors', name='Who', specialty='Time')['id']}"
    body = {"body": {"name": "Whom", "specialty": "Time"}} if method == "put" else {}
    call: Callable[..., object] = getattr(ann, method)
    call(url, **body, headers={"If-Match": '"2"'}).refuse(412, "stale")  # type: ignore[attr-defined]
    assert ann.get(url).json["name"] == "Who"
    assert call(url, **body, headers={"If-Match": '"1"'}).status in (200, 204)  # type: ignore[attr-defined]


def test_an_unknown_resource_is_not_found_whatever_if_match_says(ann: Client) -> None:
    for collection in ("patients", "doctors", "mappings"):
        ann.delete(f"/api/{collection}/99", headers={"If-Match": '"1"'}).refuse(404, "not-found")


def test_a_mapping_has_a_version_as_well(ann: Client) -> None:
    patient = ann.create("/api/patients", name="Zoë")
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")
    answer = ann.post("/api/mappings", {"patient_id": patient["id"], "doctor_id": doctor["id"]})
    url = f"/api/mappings/{answer.json['id']}"
    ann.delete(url, headers={"If-Match": '"7"'}).refuse(412, "stale")
    ann.delete(url, headers={"If-Match": answer.headers["ETag"]}).expect(204)
