"""A baseline without networks: samples of a mixture of 100 Gaussians, fitted to pixels.

`uv run --with scikit-learn benchmarks/mixture.py` takes ten minutes on one core and writes
mixture.npz, 10,000 samples; `python src/evaluate.py samples=mixture.npz` scores them. A generator
that scores worse knows less of the data than their means and covariances.
"""

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from twoplayer.config.compose import compose_run
from twoplayer.runs.plan import open_data

COMPONENTS = 100
DIMENSIONS = 150  # principal components, which hold 95 % of the variance; full covariances of pixels take hours
NUM = 10_000
SEED = 0


def main() -> None:
    """Fit the mixture to the training images, and sample it."""
    torch.set_num_threads(1)
    images = open_data(compose_run("metric=none")).splits.train.images
    pixels = images.flatten(1).double().numpy() / 127.5 - 1
    projection = PCA(DIMENSIONS, random_state=SEED).fit(pixels)
    print(f"{DIMENSIONS} principal components hold {projection.explained_variance_ratio_.sum():.1%} of the variance")
    mixture = GaussianMixture(COMPONENTS, reg_covar=1e-3, max_iter=20, random_state=SEED, verbose=2, verbose_interval=1)
    mixture.fit(projection.transform(pixels))
    samples = projection.inverse_transform(mixture.sample(NUM)[0]).clip(-1, 1).astype(np.float32)
    np.random.default_rng(SEED).shuffle(samples)  # they come component by component
    np.savez_compressed("mixture.npz", images=samples.reshape(NUM, *images.shape[1:]))


if __name__ == "__main__":
    main()
