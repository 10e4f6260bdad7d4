"""What an answer looks like: the shapes of OpenAI's Videos API, and what is ours on top."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class VideoError(BaseModel):
    """Why a job failed."""

    code: str = Field(description="One word for a program.", examples=["out_of_memory"])
    message: str = Field(
        description="One sentence for a person.", examples=["The device ran out of memory."]
    )


class ShotMade(BaseModel):
    """One part of a video that has several."""

    prompt: str = Field(description="What it shows.", examples=["a red ball bounces"])
    seconds: str = Field(description="Its duration in seconds.", examples=["2.125"])
    num_frames: int = Field(ge=1, description="Its length in frames, at least 1.", examples=[17])
    join: Literal["cut", "continue"] = Field(
        description="Whether it is cut to, or goes on from the last frame before.", examples=["cut"]
    )


class Video(BaseModel):
    """One job and, once it is completed, one video."""

    id: str = Field(description="Names the job and the video.", examples=["video_0a1b2c3d"])
    object: Literal["video"] = Field("video", description="What this is.", examples=["video"])
    created_at: int = Field(
        description="When it was asked for, in seconds since 1970 (UTC).", examples=[1767225600]
    )
    completed_at: int | None = Field(
        description="When it was completed, in seconds since 1970 (UTC).", examples=[1767225660]
    )
    expires_at: int | None = Field(
        description="When it will be removed, in seconds since 1970 (UTC); null is never.",
        examples=[None],
    )
    model: str = Field(description="The model that makes it, by its own name.", examples=["tiny"])
    progress: int = Field(
        ge=0, le=100, description="How much is done, in percent: 0 to 100.", examples=[45]
    )
    prompt: str = Field(description="What was asked for.", examples=["a red ball bounces"])
    rewritten_prompt: str | None = Field(
        description="What is rendered in its place, where a rewriter is set up.", examples=[None]
    )
    remixed_from_video_id: str | None = Field(
        description="The video it was made from, if from one made here.", examples=[None]
    )
    seconds: str = Field(
        description="Duration of the file in seconds, the shortest decimal.", examples=["2.125"]
    )
    size: str = Field(description="Width x height of the file in pixels.", examples=["512x512"])
    status: Literal["queued", "in_progress", "completed", "failed"] = Field(
        description="How the job stands; a cancelled one is failed with code cancelled.",
        examples=["in_progress"],
    )
    error: VideoError | None = Field(description="Why it failed, if so.", examples=[None])
    seed: int = Field(ge=0, description="Seed of the initial noise, 0 to 2^63 - 1.", examples=[7])
    fps: int = Field(ge=1, le=240, description="Frames a second, 1 to 240.", examples=[8])
    num_frames: int = Field(ge=1, description="Length in frames, at least 1.", examples=[17])
    num_inference_steps: int = Field(ge=1, description="Denoising steps.", examples=[24])
    guidance_scale: float | None = Field(
        description="Scale of classifier-free guidance; null: the model's.", examples=[2.5]
    )
    guidance_scale_2: float | None = Field(
        description="That of the second expert; null: the model's, if it has one.", examples=[None]
    )
    flow_shift: float | None = Field(
        description="Shift of the noise schedule; null: the model's.", examples=[None]
    )
    negative_prompt: str = Field(description="What guidance leads away from.", examples=[""])
    strength: float | None = Field(
        description="How far it may leave its source; null: it has none.", examples=[None]
    )
    lora: str | None = Field(description="The LoRA that is applied, if one is.", examples=[None])
    loop: bool = Field(description="Whether its end leads back to its start.", examples=[False])
    shots: list[ShotMade] | None = Field(
        description="Its parts in their order, if it has several.", examples=[None]
    )
    rendered_size: str = Field(
        description="Width x height in pixels that the model renders; the file may be larger.",
        examples=["64x64"],
    )
    queue_position: int | None = Field(
        description="How many jobs start before this one, 0 or more; null once it has started.",
        examples=[0],
    )
    eta_seconds: float | None = Field(
        description="Seconds until it should be over, 0 or more; null while nothing is known.",
        examples=[12.5],
    )
    timings: dict[str, float] | None = Field(
        description="Seconds spent in each stage, once completed.",
        examples=[{"queue": 0.2, "text": 0.1, "denoise": 9.5, "decode": 1.5, "encode": 0.8}],
    )
    warnings: list[str] = Field(
        description="What differs from what was asked, a sentence each.",
        examples=[["seconds: 4 was asked; tiny makes 2.125."]],
    )


class VideoPage(BaseModel):
    """A page of a list; `after=last_id` asks for the next one."""

    object: Literal["list"] = Field("list", description="What this is.", examples=["list"])
    data: list[Video] = Field(description="0 to 100 videos.")
    first_id: str | None = Field(description="Id of the first.", examples=["video_0a1b2c3d"])
    last_id: str | None = Field(description="Id of the last.", examples=["video_4e5f6a7b"])
    has_more: bool = Field(description="Whether another page follows.", examples=[False])


class VideoDeleted(BaseModel):
    """The answer to a deletion."""

    id: str = Field(description="What was deleted.", examples=["video_0a1b2c3d"])
    object: Literal["video.deleted"] = Field(
        "video.deleted", description="What this is.", examples=["video.deleted"]
    )
    deleted: Literal[True] = Field(True, description="That it is gone.", examples=[True])


class Verification(BaseModel):
    """Who made a video, by its C2PA manifest."""

    object: Literal["video.verification"] = Field(
        "video.verification", description="What this is.", examples=["video.verification"]
    )
    verdict: Literal["trusted", "valid, unknown signer", "tampered", "absent"] = Field(
        description="Whether there is a manifest, it is whole, and its signer is trusted here.",
        examples=["trusted"],
    )
    signer: str | None = Field(
        description="Name and organisation of the certificate.",
        examples=["Kinetograph (Kinetograph)"],
    )
    generator: str | None = Field(description="What made it.", examples=["Kinetograph 0.1.0"])
    model: str | None = Field(description="By which model.", examples=["tiny"])
    made_at: str | None = Field(
        description="When, as ISO 8601 has it.", examples=["2026-01-01T00:00:00+00:00"]
    )
    ai_made: bool | None = Field(
        description="Whether it says that a trained model made it.", examples=[True]
    )


class Model(BaseModel):
    """A served model, with all that its checkpoint tells of itself."""

    model_config = ConfigDict(extra="allow")
    id: str = Field(description="Its name, to be given as model.", examples=["tiny"])
    object: Literal["model"] = Field("model", description="What this is.", examples=["model"])
    created: int = Field(
        description="When it was first served, in seconds since 1970 (UTC).", examples=[1767225600]
    )
    owned_by: str = Field(description="Who serves it.", examples=["kinetograph"])
    aliases: list[str] = Field(description="Other names for it.", examples=[["sora-2"]])


class ModelPage(BaseModel):
    """All the served models, the default first."""

    object: Literal["list"] = Field("list", description="What this is.", examples=["list"])
    data: list[Model] = Field(description="The models.")


class Health(BaseModel):
    """How the service stands."""

    status: str = Field(description="ok or ready.", examples=["ok"])


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(
        description="A sentence that names the field, its value and what is allowed.",
        examples=["fps must be a whole number from 1 to 240, not 0."],
    )
    type: Literal["invalid_request_error", "server_error"] = Field(
        description="Whose fault it is.", examples=["invalid_request_error"]
    )
    param: str | None = Field(description="The field at fault, if one is.", examples=["fps"])
    code: str = Field(description="One word for a program.", examples=["invalid_value"])


class ErrorEnvelope(BaseModel):
    """The body of every error."""

    error: ErrorDetail = Field(description="What went wrong.")
