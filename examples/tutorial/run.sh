#!/bin/sh
# SageMaker runs the image with one word: `train` in a training job, `serve` behind an endpoint or in a batch job.
set -e

if [ "$1" = "train" ]; then
    # The notebook with its outputs lands in output.tar.gz; the model that it saves in /opt/ml/model lands in model.tar.gz.
    jupyter nbconvert --to notebook --execute --ExecutePreprocessor.timeout=-1 \
        --output-dir /opt/ml/output/data train.ipynb &
    notebook=$!
    # A shell keeps signals to itself. Handing SIGTERM on is what lets StopTrainingJob end the notebook at once.
    trap 'kill -TERM $notebook' TERM
    wait $notebook
else
    exec python app.py
fi
