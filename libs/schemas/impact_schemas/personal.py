"""Names of properties under which data about persons usually stands. A guess from the name alone."""

from __future__ import annotations

import re

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_KINDS = {
    "a telephone number": {"phone", "phones", "telephone", "tel", "mobile", "msisdn", "whatsapp", "fax"},
    "an e-mail address": {"email", "emails", "mail", "mailaddress", "emailaddress"},
    "a date of birth": {"birth", "birthday", "birthdate", "birthdays", "dob", "dateofbirth"},
    "a place on the map": {
        "lat", "latitude", "lon", "lng", "longitude", "latlon", "latlng", "coordinates", "coords", "gps",
        "geolocation",
    },
    "a person's name": {
        "firstname", "lastname", "surname", "fullname", "middlename", "givenname", "familyname", "forename",
        "nickname", "username", "maidenname",
    },
}  # fmt: skip
_KIND_OF = {word: kind for kind, words in _KINDS.items() for word in words}
# before `name`; `clinic_name` and `product_name` are no person's
_PERSONS = {
    "first", "last", "full", "middle", "given", "family", "maiden", "user", "person", "people", "patient",
    "customer", "client", "member", "beneficiary", "recipient", "mother", "father", "parent", "child", "baby",
    "guardian", "spouse", "contact", "student", "learner", "teacher", "worker", "nurse", "doctor", "owner",
    "farmer", "agent", "head",
}  # fmt: skip


def personal_kind(name: str) -> str | None:
    """What a property of this name most likely holds about a person, in words; None if nothing."""
    words = [word.lower() for word in _WORDS.findall(name)]
    for word in words:
        if (kind := _KIND_OF.get(word)) is not None:
            return kind
    joined = "".join(words)
    if words and words[-1] == "name" and (len(words) == 1 or words[-2] in _PERSONS):
        return "a person's name"
    return _KIND_OF.get(joined)
