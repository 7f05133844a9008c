"""The period of a variable star from an uneven light curve: a small analysis that needs numpy and nothing else.

300 brightness measurements over 60 nights (made here, with a fixed seed) hide a star that pulsates every 3.1416 days. A least-squares
periodogram finds the period, its error and the amplitude. Shows the folded light curve as text and writes it to analysis.svg.
Ends with status 1 when the period found is not the one put in.
"""

import platform
import sys

import numpy as np

TRUE_PERIOD = 3.1416  # days
NOISE = 0.03  # magnitudes


def observe(seed=7, count=300, nights=60.0):
    """Times in days and magnitudes: two harmonics, night-time sampling, Gaussian noise."""
    random = np.random.default_rng(seed)
    times = np.sort(np.floor(random.uniform(0, nights, count)) + random.uniform(0.3, 0.7, count))
    phase = 2 * np.pi * times / TRUE_PERIOD
    magnitudes = 12.4 + 0.11 * np.sin(phase) + 0.04 * np.sin(2 * phase + 0.6)
    return times, magnitudes + random.normal(0, NOISE, count)


def fit(times, magnitudes, period):
    """Least-squares fit of a constant and two harmonics: its coefficients and the sum of squared residuals."""
    phase = 2 * np.pi * times / period
    design = np.column_stack([np.ones_like(times)] + [f(n * phase) for n in (1, 2) for f in (np.sin, np.cos)])
    coefficients, *_ = np.linalg.lstsq(design, magnitudes, rcond=None)
    return coefficients, float(np.sum((magnitudes - design @ coefficients) ** 2))


def find_period(times, magnitudes):
    """The best period and its 1-sigma error: a coarse scan in frequency, then a parabola through the minimum."""
    frequencies = np.arange(0.1, 0.6, 0.05 / np.ptp(times))
    residuals = np.array([fit(times, magnitudes, 1 / f)[1] for f in frequencies])
    best = int(np.argmin(residuals))
    fine = np.linspace(frequencies[max(best - 1, 0)], frequencies[min(best + 1, len(frequencies) - 1)], 41)
    a, b, _ = np.polyfit(fine, [fit(times, magnitudes, 1 / f)[1] for f in fine], 2)
    frequency = -b / (2 * a)
    return 1 / frequency, NOISE / np.sqrt(a) / frequency**2


def folded(times, magnitudes, period, bins):
    """Mean brightness in each bin of phase."""
    index = ((times / period) % 1 * bins).astype(int)
    return np.array([magnitudes[index == n].mean() if np.any(index == n) else np.nan for n in range(bins)])


def text_picture(curve, height=9):
    """The curve as text, bright (small magnitudes) on top."""
    low, high = np.nanmin(curve), np.nanmax(curve)
    rows = np.round((curve - low) / (high - low) * (height - 1))
    for row in range(height):
        print(f"  {low + (high - low) * row / (height - 1):6.2f} |" + "".join("*" if r == row else " " for r in rows))
    print("         +" + "-" * len(curve) + "\n          phase 0" + " " * (len(curve) - 8) + "1")


def svg_picture(path, times, magnitudes, period, coefficients):
    """All measurements over two periods of phase, with the fitted curve."""
    width, height = 720, 320
    low, high = magnitudes.min() - 0.02, magnitudes.max() + 0.02

    def place(phase, magnitude):
        return f"{40 + phase / 2 * (width - 60):.1f},{20 + (magnitude - low) / (high - low) * (height - 60):.1f}"

    phases = np.linspace(0, 2, 241)
    angles = 2 * np.pi * phases
    a, s1, c1, s2, c2 = coefficients
    model = a + s1 * np.sin(angles) + c1 * np.cos(angles) + s2 * np.sin(2 * angles) + c2 * np.cos(2 * angles)
    dots = "".join(
        '<circle cx="{}" cy="{}" r="2"/>'.format(*place(shift + t / period % 1, m).split(","))
        for t, m in zip(times, magnitudes)
        for shift in (0, 1)
    )
    line = " ".join(place(p, m) for p, m in zip(phases, model))
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="13">'
            f'<rect width="100%" height="100%" fill="white"/><g fill="#4878a8">{dots}</g>'
            f'<polyline points="{line}" fill="none" stroke="#c04040" stroke-width="2"/>'
            f'<text x="40" y="{height - 12}">phase (period {period:.4f} d)</text><text x="8" y="14">magnitude</text></svg>\n'
        )


def main():
    times, magnitudes = observe()
    period, error = find_period(times, magnitudes)
    coefficients, residuals = fit(times, magnitudes, period)
    print(f"python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}")
    print(f"measurements   {len(times)} over {np.ptp(times):.1f} days")
    print(f"period         {period:.4f} +- {error:.4f} days")
    print(f"amplitude      {np.hypot(coefficients[1], coefficients[2]):.3f} mag")
    print(f"scatter        {np.sqrt(residuals / (len(times) - 5)):.3f} mag\n")
    text_picture(folded(times, magnitudes, period, 48))
    svg_picture("analysis.svg", times, magnitudes, period, coefficients)
    print("\npicture        analysis.svg")
    return 0 if abs(period - TRUE_PERIOD) < 4 * error else 1


if __name__ == "__main__":
    sys.exit(main())
