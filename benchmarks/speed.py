"""Speed and memory of SEGAN and MetricGAN (paper sizes) against plain PyTorch; writes benchmarks/speed.md.

    python -m benchmarks.speed                    # everything, about 20 minutes on 2 cores
    python -m benchmarks.speed segan_step metricgan_enhance --rounds 5
    python -m benchmarks.speed --one-thread       # CPU time on one thread: for a machine that is busy with other things

Every line of the table starts three fresh processes: ganse_tf, ganse_tf with stock Keras layers and optimisers, and
``benchmarks/torch_reference.py`` in an environment of its own (made on the first run; set PIP_EXTRA_INDEX_URL to
https://download.pytorch.org/whl/cpu to get PyTorch without CUDA). After three warm-up runs they work in turns, one step
at a time. Given are medians; the peak memory is that of the process.

On a busy machine wall-clock times say little, and not even ratios can be trusted: PyTorch's threads wait for each other
in a spin, and one that is not scheduled holds up all. CPU time on one thread (``--one-thread``) is hardly disturbed.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ganse_tf import setup_check

HERE = Path(__file__).parent
TORCH_ENV = HERE / ".venv-torch"
TORCH = "torch==2.13.0"
CASES = (
    ("segan_step", 1), ("segan_step", 4), ("segan_step", 16), ("metricgan_step", 1),
    ("segan_enhance", 10), ("metricgan_enhance", 10),
)  # fmt: skip
TITLES = {
    "segan_step": "SEGAN train step, batch {}",
    "metricgan_step": "MetricGAN train step, batch {}, 157 frames",
    "segan_enhance": "SEGAN `enhance`, {} s of speech",
    "metricgan_enhance": "MetricGAN `enhance`, {} s of speech",
}
KINDS = ("ganse_tf", "stock Keras", "PyTorch")
WARM_UP = 3
REST = 0.3  # seconds between turns: thread pools go on spinning for a while after their work


def tensorflow_job(case, size, stock):
    """The TensorFlow side of ``torch_reference.job``."""
    import keras
    import tensorflow as tf

    from ganse_tf.models.metricgan import MetricGAN
    from ganse_tf.models.segan import SEGAN, SEGMENT

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    name, what = case.split("_")
    model = SEGAN() if name == "segan" else MetricGAN(metric=lambda clean, enhanced, sample_rate: 0.5)
    if stock:
        settings = dict(learning_rate=2e-4, rho=0.9, epsilon=1e-10)
        optimizers = [
            keras.optimizers.RMSprop(**settings) if name == "segan" else keras.optimizers.Adam(1e-3, clipnorm=5.0)
            for _ in "GD"
        ]
        model.compile(*optimizers)
        for layer in model._flatten_layers():
            if hasattr(layer, "fast"):
                layer.fast = False
    else:
        model.compile()
    if what == "enhance":
        wav = (0.1 * rng.standard_normal(size * model.sample_rate)).astype(np.float32)
        return lambda: model.enhance(wav, model.sample_rate)
    shape = (size, SEGMENT, 1) if name == "segan" else (size, int(2.5 * model.sample_rate))
    data = [tf.constant(0.1 * rng.standard_normal(shape), tf.float32) for _ in range(2)]
    step = tf.function(lambda: model.train_step(data))
    return lambda: float(step()["g_loss"])


class Worker:
    """A process that runs one job on demand."""

    def __init__(self, kind, case, size, one_thread):
        if kind == "PyTorch":
            command = [TORCH_ENV / "bin" / "python", HERE / "torch_reference.py", case, str(size)]
        else:
            command = [sys.executable, "-m", "benchmarks.speed", "--worker", kind, case, str(size)]
        command += ["--one-thread"] if one_thread else []
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE.parent
        )
        self.process.stdout.readline()  # "ready"

    def ask(self, order):
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.process.args} stopped with code {self.process.wait()}; its messages are above.")
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def serve(run, clock):
    """The other end of ``Worker.ask``, as in torch_reference.py."""
    print("ready", flush=True)
    for order in sys.stdin:
        if order.strip() == "memory":
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
        else:
            start = clock()
            run()
            print(clock() - start, flush=True)


def measure(case, size, rounds, one_thread):
    """{kind: (median ms, fastest ms, peak MB)}."""
    workers = {kind: Worker(kind, case, size, one_thread) for kind in KINDS}
    times = {kind: [] for kind in KINDS}
    for worker in workers.values():
        for _ in range(WARM_UP):
            worker.ask("go")
    for _ in range(rounds):
        for kind, worker in workers.items():
            time.sleep(REST)
            times[kind].append(1000 * worker.ask("go"))
    memory = {kind: worker.ask("memory") for kind, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    return {kind: (statistics.median(times[kind]), min(times[kind]), memory[kind]) for kind in KINDS}


def import_seconds(code, repeats=5):
    """Median time of ``python -c code`` beyond that of an empty program."""

    def seconds(program):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, cwd=HERE.parent, stderr=subprocess.DEVNULL)
        return time.perf_counter() - start

    seconds(code)  # warm the disk cache
    return statistics.median(seconds(code) - seconds("pass") for _ in range(repeats))


def prepare_torch():
    python = TORCH_ENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", TORCH_ENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", TORCH, "numpy", "scipy"], check=True)


def versions():
    import importlib.metadata

    torch = subprocess.run(
        [TORCH_ENV / "bin" / "python", "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True
    )
    found = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")}
    return ", ".join(f"{k} {v}" for k, v in {**found, "torch": torch.stdout.strip()}.items())


def table(results):
    lines = ["| | " + " | ".join(f"{kind} ms (fastest)" for kind in KINDS) + " | PyTorch / ganse_tf | peak MB |"]
    lines.append("|---|" + "---:|" * (len(KINDS) + 2))
    for (case, size), row in results.items():
        cells = [f"{row[kind][0]:.0f} ({row[kind][1]:.0f})" for kind in KINDS]
        ratio = row["PyTorch"][0] / row["ganse_tf"][0]
        memory = " / ".join(f"{row[kind][2]:.0f}" for kind in KINDS)
        lines.append(f"| {TITLES[case].format(size)} | " + " | ".join(cells) + f" | **{ratio:.2f}** | {memory} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(TITLES)}; default: all")
    parser.add_argument("--rounds", type=int, default=9, help="timed runs per process (default 9)")
    parser.add_argument("--one-thread", action="store_true", help="CPU time on one thread instead of wall-clock time")
    parser.add_argument("--output", type=Path, help="default: speed.md or speed_one_thread.md beside this file")
    parser.add_argument("--note", default="", help="a sentence for the report, such as what else was running")
    parser.add_argument("--worker", nargs=3, metavar=("KIND", "CASE", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        kind, case, size = options.worker
        clock = time.perf_counter
        if options.one_thread:
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
            clock = time.process_time
        return serve(tensorflow_job(case, int(size), stock=kind == "stock Keras"), clock)

    output = options.output or HERE / ("speed_one_thread.md" if options.one_thread else "speed.md")
    prepare_torch()
    load = [os.getloadavg()[0]]
    results = {}
    for case, size in CASES:
        if not options.cases or case in options.cases:
            results[case, size] = measure(case, size, options.rounds, options.one_thread)
            load.append(os.getloadavg()[0])
            print(table(results).splitlines()[-1], flush=True)
    imports = {code: import_seconds(code) for code in ("import ganse_tf", "import tensorflow")}

    note = f"\n- {options.note}" if options.note else ""
    report = f"""# Speed against PyTorch

{table(results)}

{"CPU time on one thread" if options.one_thread else "Wall-clock time, default threads"}: medians of {options.rounds}
interleaved runs after {WARM_UP} warm-up runs, in ms; the fastest run in brackets. A ratio above 1 means ganse_tf is
faster. Peak resident memory of the processes in the same order (ganse_tf / stock Keras / PyTorch). float32, random
input. "stock Keras" is the same model with `layer.fast = False` and Keras'
own optimisers. The steps of ganse_tf also log the norms of both gradients. What the PyTorch side does: see
`torch_reference.py`.

`import ganse_tf`: {imports["import ganse_tf"]:.2f} s. TensorFlow is loaded when first used:
{imports["import tensorflow"]:.1f} s.

- Machine: {setup_check.processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}
- Versions: {versions()}
- Load average before and after each line: {", ".join(f"{x:.1f}" for x in load)}. The benchmark itself makes
  {1 if options.one_thread else os.cpu_count()}; more than that means that other jobs shared the cores.{note}
- Command: `python -m benchmarks.speed --rounds {options.rounds}{" --one-thread" if options.one_thread else ""}`
"""
    output.write_text(report)
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
