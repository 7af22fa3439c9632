"""Benchmarks: lm-evaluation-harness on local files, with Zhen's engine as its model. Nothing here asks the network."""

import os

# read when `datasets` and `transformers` are imported, which the modules of this package do
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "LMEVAL_LOG_LEVEL": "ERROR",
    "TQDM_DISABLE": "1",
}
os.environ.update(OFFLINE)
