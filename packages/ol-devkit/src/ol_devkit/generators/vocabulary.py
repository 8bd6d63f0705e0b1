"""The words that generated courses are made of, and the sizes they come in."""

from ol_devkit.generators.seeds import Seed

ORGANIZATIONS = ("HarborX", "NorthfieldX", "RiversideX")
SUBJECTS = (
    ("6.100", "Introduction to Computing"),
    ("8.01", "Mechanics"),
    ("14.73", "Challenges of Global Poverty"),
    ("15.415", "Foundations of Modern Finance"),
    ("7.05", "Biochemistry"),
    ("18.05", "Probability and Statistics"),
    ("2.830", "Control of Manufacturing Processes"),
    ("11.405", "Just Money: Banking as if Society Mattered"),
)
TOPICS = (
    "Rotational Motion", "Linear Models", "Search Trees", "Market Equilibrium", "Enzyme Kinetics", "Random Variables",
    "Feedback Loops", "Community Lending", "Energy & Work", "Recursion", "Portfolio Theory", "Gene Expression",
    "Sampling", "Process Variation", "Poverty Traps", "Angular Momentum",
)  # fmt: skip
SENTENCES = (
    "Read the definition twice before you look at the proof.",
    "The example on the right uses the data of the previous unit.",
    "Compare your answer with the one of a fellow learner.",
    "A small change of the first parameter can change the sign of the result.",
    "Überlegen Sie, warum die Annahme nötig ist — et pourquoi elle suffit.",
    "Watch the video at half speed if the derivation goes too fast.",
    "Nothing here needs more than arithmetic & patience.",
)
LARGE_EVERY = 50
SIZES = {"small": 12, "medium": 120, "large": 1200}


def units_of(size: str | int) -> int:
    """How many units (verticals, module items) a course of `size` has.

    Raises:
        ValueError: `size` is neither a name in `SIZES` nor a positive number.
    """
    units = SIZES.get(size) if isinstance(size, str) else size
    if units is None or units < 1:
        raise ValueError(f"size {size!r} is unknown; give one of {', '.join(SIZES)} or a positive number of units")
    return units


def topic(seed: Seed) -> str:
    """What something is about, for names."""
    return seed.choice("topic", TOPICS)


def title(seed: Seed, number: int) -> str:
    """A numbered title of a section, unit or page."""
    return f"{number + 1}. {topic(seed)}"


def paragraphs(seed: Seed, count: int) -> str:
    """`count` HTML paragraphs."""
    lines = (" ".join(seed.child(i).shuffled("s", SENTENCES)[:3]) for i in range(count))
    return "\n".join(f"<p>{line.replace('&', '&amp;')}</p>" for line in lines)


def file_size(seed: Seed, number: int) -> int:
    """The size of a course file in bytes: mostly some kilobytes, every 50th about two megabytes."""
    if number % LARGE_EVERY == LARGE_EVERY - 1:
        return seed.integer("size", 1_500_000, 2_500_000)
    return seed.integer("size", 200, 40_000)
