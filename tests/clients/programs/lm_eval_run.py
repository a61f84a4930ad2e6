"""lm-eval: a task of its own, over the path that the second argument names."""

import json
import subprocess
import sys
from pathlib import Path

TASK = """
task: rivers
dataset_path: json
dataset_kwargs: {data_files: {test: rivers.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{river}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 20}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    regexes_to_ignore: [".* is ", "[.]$"]
"""
Path("rivers.jsonl").write_text(json.dumps({"question": "Which one?", "river": "river-rhine"}))
Path("rivers.yaml").write_text(TASK)
KINDS = {"chat/completions": "local-chat-completions", "completions": "local-completions"}
path = sys.argv[2]
model = "suffice" if "chat" in path else "small"  # a policy chooses for chats alone
arguments = f"model={model},base_url={sys.argv[1]}/v1/{path},tokenizer_backend=None,max_retries=1"
command = [str(Path(sys.executable).with_name("lm_eval")), "run", "--model", KINDS[path]]
command += ["--model_args", arguments, "--tasks", "rivers", "--include_path", "."]
command += ["--output_path", "out"] + (["--apply_chat_template"] if "chat" in path else [])
done = subprocess.run(command, capture_output=True, text=True, check=False)
assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
results = max(Path("out").rglob("results*.json"), key=lambda file: file.stat().st_mtime)
scores = json.loads(results.read_text())["results"]["rivers"]
assert scores["exact_match,none"] == 1, scores
print(path, "river-rhine")
