"""A fit with scipy of data made with numpy, drawn with matplotlib. Ends with status 1 when the numbers are wrong."""

import sys
import tempfile

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import scipy
from scipy.optimize import curve_fit

random = np.random.default_rng(1)
times = np.linspace(0, 10, 200)
decay = 5 * np.exp(-times / 2.5) + random.normal(0, 0.02, times.size)
(amplitude, life), _ = curve_fit(lambda t, a, tau: a * np.exp(-t / tau), times, decay, p0=(1, 1))

with tempfile.TemporaryFile() as picture:
    plt.plot(times, decay, ".")
    plt.savefig(picture, format="png")
    size = picture.tell()
    plt.savefig(picture, format="pdf")

print(f"numpy {np.__version__}, scipy {scipy.__version__}, matplotlib {matplotlib.__version__} ({matplotlib.get_backend()})")
print(f"amplitude {amplitude:.3f}, life {life:.3f}, picture of {size} bytes")
sys.exit(0 if abs(amplitude - 5) < 0.05 and abs(life - 2.5) < 0.05 and size > 5000 else 1)
