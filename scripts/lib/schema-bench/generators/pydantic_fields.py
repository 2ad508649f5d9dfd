"""Models of pydantic 2 for the types and bounds that fields have."""

from collections import deque
from datetime import date, datetime, time, timedelta
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Optional
from uuid import UUID

from pydantic import (UUID4, AnyUrl, AwareDatetime, BaseModel, EmailStr, Field, FutureDate, HttpUrl, NonNegativeInt,
                      PastDatetime, PositiveFloat, PositiveInt, StringConstraints, conint, conlist, constr)

MODELS = {}


def model(kind):
    MODELS[kind.__name__] = kind
    return kind


@model
class Person(BaseModel):
    """A person who is mentioned in a text."""
    name: str
    age: int
    is_member: bool
    height: float


@model
class OptionalFields(BaseModel):
    name: str
    nickname: Optional[str] = None
    email: str | None = Field(default=None, description="Only if the text has one.")
    age: int | None


@model
class Defaults(BaseModel):
    language: str = "en"
    retries: int = 3
    ratio: float = 0.5
    enabled: bool = True
    tags: list[str] = Field(default_factory=list)
    labels: list[str] = []


class Address(BaseModel):
    street: str
    city: str
    postal_code: str


@model
class Nested(BaseModel):
    name: str
    home: Address
    work: Address | None = None
    others: list[Address]


class Color(Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Priority(IntEnum):
    LOW = 1
    HIGH = 2


class Status(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


@model
class Enums(BaseModel):
    color: Color
    priority: Priority
    status: Status = Status.OPEN
    mixed: Literal["a", 1, None]


@model
class Literals(BaseModel):
    sentiment: Literal["positive", "negative", "neutral"]
    kind: Literal["review"]
    stars: Literal[1, 2, 3, 4, 5]


@model
class Lists(BaseModel):
    words: list[str]
    matrix: list[list[float]]
    few: Annotated[list[int], Field(min_length=1, max_length=5)]
    anything: list
    queue: deque[int]


@model
class Dicts(BaseModel):
    scores: dict[str, float]
    people: dict[str, Address]
    anything: dict
    lists: dict[str, list[int]]


@model
class EnumKeys(BaseModel):
    by_color: dict[Color, int]
    by_word: dict[Literal["a", "b"], str]


@model
class NumberKeys(BaseModel):
    by_number: dict[int, str]


@model
class PatternKeys(BaseModel):
    by_code: dict[Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")], float]


@model
class Sets(BaseModel):
    tags: set[str]
    numbers: frozenset[int]
    colors: set[Color] = Field(min_length=1)


@model
class Tuples(BaseModel):
    point: tuple[float, float]
    entry: tuple[str, int, bool]
    many: tuple[int, ...]


class Position(NamedTuple):
    x: int
    y: int = 0


@model
class NamedTuples(BaseModel):
    position: Position


@model
class Dates(BaseModel):
    day: date
    at: datetime
    clock: time
    took: timedelta
    aware: AwareDatetime
    past: PastDatetime
    due: FutureDate | None = None


@model
class Identifiers(BaseModel):
    id: UUID
    other: UUID4
    parent: UUID | None = None


@model
class Contact(BaseModel):
    email: EmailStr
    website: HttpUrl
    any_url: AnyUrl | None = None


@model
class Network(BaseModel):
    v4: IPv4Address
    v6: IPv6Address
    path: Path


@model
class NumberBounds(BaseModel):
    score: Annotated[int, Field(ge=0, le=100)]
    ratio: Annotated[float, Field(gt=0, lt=1)]
    even: Annotated[int, Field(multiple_of=2)]
    price: Annotated[float, Field(ge=0, multiple_of=0.01)]
    count: PositiveInt
    rest: NonNegativeInt
    weight: PositiveFloat
    byte: conint(ge=0, lt=256)


@model
class StringBounds(BaseModel):
    short: Annotated[str, Field(min_length=1, max_length=20)]
    code: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}\d{4}$")]
    slug: constr(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$", max_length=64)
    phone: str = Field(pattern=r"^\+?[1-9]\d{1,14}$")


@model
class ListBounds(BaseModel):
    pair: conlist(int, min_length=2, max_length=2)
    names: Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=10)]
