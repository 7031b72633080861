"""The web server inside the image: SageMaker asks GET /ping and POST /invocations on port 8080.

GET  /ping          200 once a sample went through the model
POST /invocations   text/csv, 64 pixels per line → the digit of each line
"""

import csv
import io
import signal
import sys

import joblib
from flask import Flask, Response, request
from werkzeug.serving import WSGIRequestHandler

MODEL = "/opt/ml/model/digits.joblib"  # SageMaker has unpacked model.tar.gz there
PIXELS = 64
BLACK = 16

app = Flask(__name__)
model = joblib.load(MODEL)
with open("sample.csv", newline="") as file:
    sample = [row[1:] for row in csv.reader(file)]  # without the labels


def classify(rows):
    """The digit of each row of 64 pixels, 0 (white) to 16 (black). ValueError says which row is none."""
    images = []
    for number, row in enumerate(rows, start=1):
        if len(row) != PIXELS:
            raise ValueError(f"row {number} has {len(row)} values, not {PIXELS} pixels")
        images.append([float(value) / BLACK for value in row])
    if not images:
        raise ValueError("there is no row")
    return model.predict(images)


@app.get("/ping")
def ping():
    classify(sample[:1])
    return Response(status=200)


@app.post("/invocations")
def invocations():
    if request.mimetype != "text/csv":
        given = request.mimetype or "a body without a type"
        return Response(f"this model reads text/csv, not {given}\n", 415, mimetype="text/plain")
    try:
        rows = [row for row in csv.reader(io.StringIO(request.get_data(as_text=True))) if row]
        digits = classify(rows)
    except ValueError as error:
        return Response(f"{error}\n", 400, mimetype="text/plain")
    return Response("".join(f"{digit}\n" for digit in digits), mimetype="text/csv")


class Handler(WSGIRequestHandler):
    def log_request(self, code="-", size="-"):
        if self.path != "/ping":  # asked every five seconds
            super().log_request(code, size)


if __name__ == "__main__":
    # Process 1 of a container does not die of SIGTERM by itself.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    app.run(host="0.0.0.0", port=8080, request_handler=Handler)
