"""A small AVE and a small Kinetics-Sounds in their real layouts."""

from pathlib import Path

from datasets.writers.flv import write_video

AVE_HEADER = "Category&VideoID&Quality&StartTime&EndTime"
AVE_LISTS = {
    "train": (
        "Church bell&aaaaaaaaa-1&good&0&3",
        "Violin, fiddle&bbbb_bbbb02&good&1&2",
        "Male speech&cccccccccc3&good&0&0",
    ),
    "val": ("Church bell&dddddddddd4&good&0&2", "Violin, fiddle&eeeeeeeeee5&good&1&3"),
    "test": ("Violin, fiddle&ffffffffff6&good&0&3", "Church bell&bbbb_bbbb02&good&2&3"),
}


def write_ave(root: Path, lists: dict[str, tuple[str, ...]] = AVE_LISTS) -> None:
    """Videos of 3 s at 10 frames a second, frame k is 8 * k bright; one in training has another event in testing."""
    lines = [line for of_split in lists.values() for line in of_split]
    root.mkdir(parents=True, exist_ok=True)
    (root / "Annotations.txt").write_text("\n".join([AVE_HEADER, *lines]) + "\n", encoding="utf-8")
    for split, of_split in lists.items():
        (root / f"{split}Set.txt").write_text("\n".join(of_split) + "\n", encoding="utf-8")
    for video in {line.split("&")[1] for line in lines if line.count("&") == 4}:
        write_video(root / "AVE" / f"{video}.mp4", frames=30, rate=10, height=48, width=64, step=8, hertz=440)


KINETICS_ROWS = (
    "bowling,aaaaaaaaaa1,10,20,train",
    "tickling,bbbbbbbb_02,3,13,train",
    "abseiling,cccccccccc3,0,10,train",
    "bowling,dddddddddd4,0,10,validate",
    "tickling,eeeeeeeeee5,7,17,test",
    "bowling,gone_000007,7,17,train",
)


def write_kinetics_sounds(root: Path, rows: tuple[str, ...] = KINETICS_ROWS) -> None:
    """Videos of 2 s named as the usual fetchers name them, of every row but those whose id begins with gone."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "annotations.csv").write_text(
        "\n".join(["label,youtube_id,time_start,time_end,split", *rows]) + "\n", encoding="utf-8"
    )
    for number, row in enumerate(rows):
        label, video, start, end, _ = row.split(",")
        name = f"{video}_{int(start):06d}_{int(end):06d}" if number % 2 else video
        path = root / "videos" / label.replace(" ", "_") / f"{name}.mp4"
        if not video.startswith("gone") and not path.exists():
            write_video(path, frames=20, rate=10, height=48, width=64, step=8, hertz=440)
