"""SEGAN and MetricGAN in plain PyTorch, for the speed comparison of ``benchmarks/speed.py`` only.

Written from the two papers with the layers a PyTorch user would reach for, and the settings that were fastest here
(fused Adam, no gradients for the network that is not being trained; channels-last images gained nothing):

- SEGAN: G 73,100,049 and D 24,373,081 parameters. Virtual batch norm in D takes its reference statistics from the real
  batch of the step, as `ganse_tf.models.segan` does. Step: enhance; D on real and fake, RMSprop; D on fake again;
  G on 1/2 (D - 1)^2 + 100 |error|, RMSprop.
- MetricGAN: G 1,895,257 parameters (PyTorch keeps two biases per LSTM direction; Keras: 1,892,057), D 345,330, with
  spectral norm. Step: enhance; D on (clean, clean) and (enhanced, clean), Adam; enhance again; G through
  mask, inverse STFT and STFT, Adam. The metric is a constant, so that PESQ is not what is measured.

It runs in its own environment and takes orders on standard input: ``go`` runs once and prints the seconds, ``memory``
prints the peak resident memory in MB. With ``--one-thread`` it computes on one thread and prints CPU seconds.

    python benchmarks/torch_reference.py segan_step 4
"""

import resource
import sys
import time

import numpy as np
import torch
from scipy.signal import lfilter
from torch import nn
from torch.nn.functional import leaky_relu, pad
from torch.nn.utils.parametrizations import spectral_norm

SEGMENT, RATE = 16384, 16000
KERNEL, LEAK = 31, 0.3
WIDTHS = (16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 1024)
N_FFT, HOP, BINS = 512, 256, 257
METRIC = 0.5  # stands for the score of the enhanced speech


class SEGANGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        channels = (1, *WIDTHS)
        self.encoder = nn.ModuleList(nn.Conv1d(a, b, KERNEL, 2, 15) for a, b in zip(channels, WIDTHS))
        self.encoder_prelu = nn.ModuleList(nn.PReLU(b, init=0.0) for b in WIDTHS)
        outputs = (*WIDTHS[-2::-1], 1)
        inputs = (2 * WIDTHS[-1], *(2 * b for b in outputs[:-1]))
        self.decoder = nn.ModuleList(
            nn.ConvTranspose1d(a, b, KERNEL, 2, 15, output_padding=1) for a, b in zip(inputs, outputs)
        )
        self.decoder_prelu = nn.ModuleList(nn.PReLU(b, init=0.0) for b in outputs[:-1])

    def forward(self, noisy, z):
        x, skips = noisy, []
        for convolution, prelu in zip(self.encoder, self.encoder_prelu):
            x = convolution(x)
            skips.append(x)
            x = prelu(x)
        x = torch.cat([z, x], 1)
        for convolution, prelu, skip in zip(self.decoder, self.decoder_prelu, skips[-2::-1]):
            x = torch.cat([prelu(convolution(x)), skip], 1)
        return torch.tanh(self.decoder[-1](x))


class VirtualBatchNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.gamma = nn.Parameter(1.0 + 0.02 * torch.randn(1, channels, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, x, is_reference):
        mean, square = x.mean((0, 2), keepdim=True), x.square().mean((0, 2), keepdim=True)
        if is_reference:
            self.reference = mean.detach(), square.detach()
        else:
            a = 1.0 / (len(x) + 1.0)
            mean, square = a * mean + (1 - a) * self.reference[0], a * square + (1 - a) * self.reference[1]
        scale = self.gamma * torch.rsqrt(square - mean.square() + 1e-5)
        return x * scale + (self.beta - mean * scale)


class SEGANDiscriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(a, b, KERNEL, 2, 15) for a, b in zip((2, *WIDTHS), WIDTHS))
        self.norms = nn.ModuleList(VirtualBatchNorm(b) for b in WIDTHS)
        self.to_one = nn.Conv1d(WIDTHS[-1], 1, 1, bias=False)
        self.score = nn.Linear(SEGMENT // 2 ** len(WIDTHS), 1)

    def forward(self, candidate, noisy, is_reference=False):
        x = torch.cat([candidate, noisy], 1)
        for convolution, norm in zip(self.convolutions, self.norms):
            x = leaky_relu(norm(convolution(x), is_reference), LEAK)
        return self.score(self.to_one(x).flatten(1))


class MetricGANGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.blstm = nn.LSTM(BINS, 200, num_layers=2, bidirectional=True, batch_first=True)
        self.dense, self.mask = nn.Linear(400, 300), nn.Linear(300, BINS)

    def forward(self, features):
        x = leaky_relu(self.dense(self.blstm(features)[0]), LEAK)
        return torch.sigmoid(self.mask(x)).clamp(min=0.05)


class MetricGANDiscriminator(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = zip((2, 15, 25, 40), (15, 25, 40, 50), (5, 7, 9, 11))
        self.norm = nn.InstanceNorm2d(2, affine=True)  # batch norm at batch size 1
        self.convolutions = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, k)) for a, b, k in sizes)
        self.dense = nn.ModuleList(spectral_norm(nn.Linear(a, b)) for a, b in ((50, 50), (50, 10)))
        self.score = spectral_norm(nn.Linear(10, 1))

    def forward(self, pair):
        x = self.norm(pair)
        for layer in self.convolutions:
            x = leaky_relu(layer(x), LEAK)
        x = x.mean((2, 3))
        for layer in self.dense:
            x = leaky_relu(layer(x), LEAK)
        return self.score(x)[:, 0]


def trainable(network, flag):
    for parameter in network.parameters():
        parameter.requires_grad_(flag)


class SEGAN:
    def __init__(self):
        self.g, self.d = SEGANGenerator(), SEGANDiscriminator()
        settings = dict(lr=2e-4, alpha=0.9, eps=1e-10)
        self.g_optimizer = torch.optim.RMSprop(self.g.parameters(), **settings)
        self.d_optimizer = torch.optim.RMSprop(self.d.parameters(), **settings)

    def z(self, n):
        return torch.randn(n, WIDTHS[-1], SEGMENT // 2 ** len(WIDTHS))

    def step(self, noisy, clean):
        enhanced = self.g(noisy, self.z(len(noisy)))
        trainable(self.d, True)
        real, fake = self.d(clean, noisy, is_reference=True), self.d(enhanced.detach(), noisy)
        self.d_optimizer.zero_grad()
        (0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()).backward()
        self.d_optimizer.step()
        trainable(self.d, False)
        self.g_optimizer.zero_grad()
        loss = 0.5 * (self.d(enhanced, noisy) - 1).square().mean() + 100.0 * (enhanced - clean).abs().mean()
        loss.backward()
        self.g_optimizer.step()
        return loss.item()

    @torch.no_grad()
    def enhance(self, wav):
        frames = torch.from_numpy(lfilter([1.0, -0.95], [1.0], wav).astype(np.float32))
        frames = pad(frames, (0, -len(frames) % SEGMENT)).reshape(-1, 1, SEGMENT)
        enhanced = self.g(frames, self.z(len(frames))).reshape(-1)[: len(wav)]
        return lfilter([1.0], [1.0, -0.95], enhanced.numpy()).astype(np.float32)


class MetricGAN:
    def __init__(self):
        self.g, self.d = MetricGANGenerator(), MetricGANDiscriminator()
        self.g_optimizer = torch.optim.Adam(self.g.parameters(), lr=1e-3, eps=1e-7, fused=True)
        self.d_optimizer = torch.optim.Adam(self.d.parameters(), lr=1e-3, eps=1e-7, fused=True)
        self.window = torch.hamming_window(N_FFT)

    def features(self, wav):
        spec = torch.stft(wav, N_FFT, HOP, window=self.window, return_complex=True).transpose(1, 2)
        return torch.log1p(torch.sqrt(spec.real.square() + spec.imag.square() + 1e-12)), spec

    def enhance_batch(self, noisy):
        feature, spec = self.features(noisy)
        std, mean = torch.std_mean(feature, 1, correction=0, keepdim=True)
        magnitude = torch.expm1(self.g((feature - mean) / std.clamp(min=1e-5)) * feature)
        enhanced = torch.polar(magnitude, spec.angle()).transpose(1, 2)
        return torch.istft(enhanced, N_FFT, HOP, window=self.window, length=noisy.shape[1])

    def judge(self, candidate, clean):
        return self.d(torch.stack([self.features(candidate)[0], self.features(clean)[0]], 1))

    def step(self, noisy, clean):
        with torch.no_grad():
            enhanced = self.enhance_batch(noisy)
        trainable(self.d, True)
        self.d_optimizer.zero_grad()
        loss = (self.judge(clean, clean) - 1).square().mean() + (self.judge(enhanced, clean) - METRIC).square().mean()
        loss.backward()
        self.d_optimizer.step()
        trainable(self.d, False)
        self.g_optimizer.zero_grad()
        loss = (self.judge(self.enhance_batch(noisy), clean) - 1).square().mean()
        loss.backward()
        self.g_optimizer.step()
        return loss.item()

    @torch.no_grad()
    def enhance(self, wav):
        return self.enhance_batch(torch.from_numpy(wav)[None])[0].numpy()


def job(case, size):
    """A function that does one unit of work. `size`: batch of a training step, seconds of an enhancement."""
    name, what = case.split("_")
    torch.manual_seed(0)
    model = {"segan": SEGAN, "metricgan": MetricGAN}[name]()
    if what == "enhance":
        wav = 0.1 * torch.randn(size * RATE).numpy()
        model.g.eval()
        return lambda: model.enhance(wav)
    shape = (size, 1, SEGMENT) if name == "segan" else (size, int(2.5 * RATE))  # 2.5 s: 157 frames
    noisy, clean = 0.1 * torch.randn(shape), 0.1 * torch.randn(shape)
    return lambda: model.step(noisy, clean)


def serve(run):
    """Do what standard input says until it closes."""
    print("ready", flush=True)
    clock = time.process_time if ONE_THREAD else time.perf_counter
    for order in sys.stdin:
        if order.strip() == "memory":
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)  # Linux counts in KB
        else:
            start = clock()
            run()
            print(clock() - start, flush=True)


ONE_THREAD = "--one-thread" in sys.argv

if __name__ == "__main__":
    if ONE_THREAD:
        torch.set_num_threads(1)
    serve(job(sys.argv[1], int(sys.argv[2])))
