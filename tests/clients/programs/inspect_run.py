"""inspect-ai: the task of inspect_task.py through three APIs; its log has to say that it passed."""

import sys
from pathlib import Path

from inspect_ai import eval as evaluate
from inspect_ai.model import get_model

sys.path.insert(0, str(Path(__file__).parent))
from inspect_task import rivers

URL = sys.argv[1]
for model in (
    get_model("openai/suffice", base_url=URL + "/v1", api_key="any", responses_api=False),
    get_model("openai/suffice", base_url=URL + "/v1", api_key="any", responses_api=True),
    get_model("anthropic/suffice", base_url=URL, api_key="any"),
):
    (log,) = evaluate(rivers(), model=model, display="none", log_dir="logs", max_retries=0)
    assert log.status == "success", log.error
    assert log.results.scores[0].metrics["accuracy"].value == 1, log.samples
    print(log.samples[0].output.completion, log.stats.model_usage)
