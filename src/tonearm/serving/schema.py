"""What the server answers, for its OpenAPI schema."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from tonearm.prediction import Verdict


class Window(BaseModel):
    """A window of a recording; `start` and `end` are in seconds from the recording's beginning."""

    start: float
    end: float
    probabilities: dict[str, float]
    music: float | None
    verdict: Verdict


class Answer(BaseModel):
    """The result for one recording, as `tonearm classify --json` prints it."""

    path: str | None = Field(description="The name it was sent under.")
    genre: str | None = Field(description="The most probable one; null if it cannot be decoded.")
    confidence: float | None
    probabilities: dict[str, float] | None = Field(description="The most probable first.")
    duration: float | None = Field(description="Seconds.")
    truncated: bool | None = Field(description="Whether the file breaks off before its end.")
    error: str | None = Field(description="One line: why it cannot be decoded.")
    music: float | None = Field(description="The probability that it is music at all.")
    verdict: Verdict | None = Field(description="Whether the genre stands.")
    segments: list[Window] | None = Field(None, description="With ?timeline=true.")


class Refusal(BaseModel):
    """The reason a request was refused, in one line."""

    error: str


class Health(BaseModel):
    """Whether the server can classify, or why it cannot, and which model it uses."""

    status: str
    version: str
    model: str


class Description(BaseModel, extra="allow"):
    """The metadata of a model's bundle; further keys are the settings that the model uses."""

    name: str
    labels: list[str] = Field(description="The genres it knows.")
    training: dict[str, Any] = Field(description="What it learned from.")
    metrics: dict[str, Any] = Field(description="How well it did.")
    licence: str
    attribution: str = Field(description="Whom the weights are owed to.")


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Answer},
    400: {"model": Refusal, "description": "The request is not as it should be."},
    408: {"model": Refusal, "description": "The upload stopped coming."},
    413: {"model": Refusal, "description": "The upload is too large."},
    422: {
        "model": Answer,
        "description": "The recording cannot be decoded; `error` gives the reason.",
    },
    500: {"model": Refusal, "description": "The server is at fault; its log says more."},
    503: {
        "model": Refusal,
        "description": "Too many recordings wait, no process can classify, or the disk is full.",
        "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
    },
}
# For the OpenAPI schema: FastAPI cannot derive a form that `classify` parses itself.
UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary", "minLength": 1}},
                }
            }
        },
    }
}
