"""Fashion-MNIST, articles of clothing in MNIST's format (Xiao, Rasul and Vollgraf, 2017)."""

from twoplayer.data.mnist import MNIST
from twoplayer.data.sources import debian_package, mirrors


class FashionMNIST(MNIST):
    """60,000 training and 10,000 test images of ten kinds of clothing, split like MNIST."""

    title = "Fashion-MNIST"
    folder = "FashionMNIST/raw"
    checksums = {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }
    sources = {
        "torchvision's mirror": mirrors(["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"]),
        "the Debian package dataset-fashion-mnist": debian_package("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist"),
    }
