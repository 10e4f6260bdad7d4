"""A pipeline of diffusers that shows its steps by its bar alone is served as any other is."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from serving.catalog import Entry
from serving.provenance import Provenance
from serving.worker import CannotOpen, Worker, open_host
from tests.model.test_foreign_kinds import FAMILIES, TOLD
from tests.serving.idle import idle_service, served


def test_it_makes_videos_with_the_guidance_that_is_asked(tmp_path: Path) -> None:
    torch.manual_seed(0)
    FAMILIES["hunyuan15"]().save_pretrained(tmp_path / "model")
    entry = Entry(**TOLD, path=str(tmp_path / "model"))
    host = open_host([entry], "cpu")
    provenance = Provenance.of(tmp_path / "provenance", None, None, False)
    with (
        idle_service(tmp_path, asdict(host.descriptions()[0])) as service,
        served(service) as api,
    ):
        worker = Worker(host, [entry], service.store, service.files, "w", 900, provenance)
        body = {"prompt": "a red cat", "seed": 5, "size": "64x32", "num_inference_steps": 2}
        files = []
        for guidance in (4.0, 9.0):
            asked = api.post("/v1/videos", json=body | {"guidance_scale": guidance})
            assert asked.status_code == 200, asked.text
            worker.make_video(asked.json()["id"])
            made = api.get(f"/v1/videos/{asked.json()['id']}").json()
            assert (made["status"], made["num_frames"], made["size"]) == ("completed", 5, "64x32")
            files.append(api.get(f"/v1/videos/{made['id']}/content?variant=thumbnail").content)
        assert files[0] != files[1]
        image = {"image_url": "data:image/png;base64,AAAA"}
        refused = api.post("/v1/videos", json=body | {"input_reference": image})
        assert refused.json()["error"]["code"] == "not_supported"


def test_one_that_needs_more_than_a_text_is_refused_before_anything_is_loaded(
    tmp_path: Path,
) -> None:
    index = '{"_class_name": "AnimateDiffControlNetPipeline"}'
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(CannotOpen, match="AnimateDiffControlNetPipeline is steered by control"):
        open_host([Entry(name="steered", path=str(tmp_path))], "cpu")
