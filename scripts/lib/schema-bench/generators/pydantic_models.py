"""Ordinary models of pydantic 2. Prints their JSON Schemas by name."""

import json
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, Optional, TypeVar, Union

from pydantic import (BaseModel, Base64Bytes, ByteSize, ConfigDict, Field, Json, PositiveInt, RootModel, SecretStr, TypeAdapter,
                      computed_field)
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from pydantic_fields import MODELS, Address, Defaults, model

T = TypeVar("T")


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
