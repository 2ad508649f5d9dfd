"""Ordinary models of pydantic 2. Prints their JSON Schemas by the models' names."""

import json
from collections import deque
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypeVar, Union
from uuid import UUID

from pydantic import (UUID4, AnyUrl, AwareDatetime, BaseModel, Base64Bytes, ByteSize, ConfigDict, EmailStr, Field, FutureDate,
                      HttpUrl, Json, NonNegativeInt, PastDatetime, PositiveFloat, PositiveInt, RootModel, SecretStr,
                      StringConstraints, TypeAdapter, computed_field, conint, conlist, constr)
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

T = TypeVar("T")
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


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    breed: str


@model
class Discriminated(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


@model
class DiscriminatedList(BaseModel):
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]


@model
class PlainUnion(BaseModel):
    pet: Cat | Dog
    value: int | str
    number: int | float
    maybe: list[str] | str | None = None


@model
class Tree(BaseModel):
    name: str
    children: list["Tree"] = []


@model
class LinkedList(BaseModel):
    value: int
    next: Optional["LinkedList"] = None


class Folder(BaseModel):
    name: str
    entries: list["File | Folder"]


class File(BaseModel):
    name: str
    size: int


Folder.model_rebuild()
model(Folder)


class Page(BaseModel, Generic[T]):
    items: list[T]
    total: int
    next_cursor: str | None = None


class AddressPage(Page[Address]):
    pass


model(AddressPage)


@model
class GenericField(BaseModel):
    people: Page[Address]
    words: Page[str]


@model
class AnyField(BaseModel):
    name: str
    payload: Any
    optional: Any = None
    anything: object


@model
class ExtraAllowed(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


@model
class ExtraForbidden(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    inner: Address


@model
class ExtraTyped(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int]
    name: str


@model
class Decimals(BaseModel):
    price: Decimal
    rounded: Annotated[Decimal, Field(max_digits=8, decimal_places=2)]
    positive: Annotated[Decimal, Field(gt=0)]


@model
class Aliases(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    first_name: str
    last_name: str = Field(alias="surname")
    post_code: int | None = None


@model
class Described(BaseModel):
    """An invoice, with all that a person would want to know about it."""
    model_config = ConfigDict(title="Invoice", json_schema_extra={"examples": [{"number": "A-1", "total": 12.5}]})
    number: str = Field(title="Number", description="As printed on the invoice.", examples=["A-1", "B-22"])
    total: float = Field(description="In euros.", deprecated=True)
    note: str = Field(default="", json_schema_extra={"x-order": 3, "readOnly": True})


@model
class Bytes(BaseModel):
    raw: bytes
    encoded: Base64Bytes
    size: ByteSize
    secret: SecretStr


@model
class JsonText(BaseModel):
    config: Json
    numbers: Json[list[int]]


@dataclass
class Point:
    x: float
    y: float
    label: str | None = None


@model
class Dataclasses(BaseModel):
    origin: Point
    path: list[Point]


class Movie(TypedDict, total=False):
    title: str
    year: int


@model
class TypedDicts(BaseModel):
    movie: Movie


class Base(BaseModel):
    id: int
    created: datetime


@model
class Inherited(Base):
    title: str


@model
class Computed(BaseModel):
    width: float
    height: float

    @computed_field
    @property
    def area(self) -> float:
        return self.width * self.height


class Reasoning(BaseModel):
    explanation: str = Field(description="What this step does.")
    output: str


@model
class MathAnswer(BaseModel):
    steps: list[Reasoning]
    final_answer: str
    confidence: float = Field(ge=0, le=1)


class Entity(BaseModel):
    text: str
    label: Literal["person", "organization", "place", "date", "other"]
    start: int = Field(ge=0)
    end: int = Field(ge=0)


@model
class Extraction(BaseModel):
    entities: list[Entity] = Field(max_length=50)
    summary: str = Field(max_length=500)
    language: str = Field(pattern="^[a-z]{2}$")


class LineItem(BaseModel):
    description: str
    quantity: PositiveInt
    unit_price: Annotated[Decimal, Field(ge=0, decimal_places=2)]


@model
class Invoice(BaseModel):
    number: str
    issued: date
    due: date | None = None
    currency: Literal["EUR", "USD", "GBP"] = "EUR"
    items: list[LineItem] = Field(min_length=1)
    paid: bool = False


class Search(BaseModel):
    action: Literal["search"] = "search"
    query: str


class Finish(BaseModel):
    action: Literal["finish"] = "finish"
    answer: str


@model
class AgentStep(BaseModel):
    thought: str
    action: Search | Finish = Field(discriminator="action")


class Words(RootModel[list[str]]):
    pass


class Scores(RootModel[dict[str, int]]):
    pass


@model
class RootModels(BaseModel):
    words: Words
    scores: Scores


@model
class NestedUnions(BaseModel):
    rows: list[dict[str, int | str | None]]
    cells: dict[str, list[float] | float]


class Comparison(BaseModel):
    field: str
    op: Literal["=", "<", ">"]
    value: str | float


class And(BaseModel):
    all_of: list["Comparison | And"] = Field(min_length=1)


And.model_rebuild()


@model
class Filter(BaseModel):
    where: And


ROOTS = {
    "ListOfModels": TypeAdapter(list[Address]),
    "UnionRoot": TypeAdapter(Annotated[Cat | Dog, Field(discriminator="kind")]),
    "PlainUnionRoot": TypeAdapter(Union[Cat, Dog]),
    "DictRoot": TypeAdapter(dict[str, Address]),
    "DataclassRoot": TypeAdapter(Point),
    "TypedDictRoot": TypeAdapter(Movie),
}

schemas = {name: kind.model_json_schema() for name, kind in MODELS.items()}
schemas |= {name: adapter.json_schema() for name, adapter in ROOTS.items()}
schemas["ComputedOutput"] = Computed.model_json_schema(mode="serialization")
schemas["DecimalsOutput"] = Decimals.model_json_schema(mode="serialization")
schemas["DefaultsOutput"] = Defaults.model_json_schema(mode="serialization")
print(json.dumps(schemas))
