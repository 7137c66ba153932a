"""Names to start from, by what a clip is about."""

from __future__ import annotations

SOUNDS = (
    *("dog barking", "cat meowing", "bird singing", "rooster crowing", "cow mooing", "baby crying"),
    *(
        "person laughing",
        "people talking",
        "crowd applauding",
        "footsteps",
        "door knocking",
        "church bell ringing",
    ),
    *("rain", "thunder", "wind", "sea waves", "waterfall", "fire crackling"),
    *("car engine", "train passing", "airplane", "helicopter", "siren", "vacuum cleaner"),
)
SPORTS = (
    *(
        "playing football",
        "playing basketball",
        "playing tennis",
        "playing table tennis",
        "playing volleyball",
    ),
    *("playing golf", "playing ice hockey", "playing cricket", "bowling", "swimming", "diving", "surfing"),
    *("skiing", "skateboarding", "horse riding", "cycling", "running", "long jump", "weight lifting"),
    *("gymnastics", "boxing", "fencing", "archery", "climbing"),
)
INSTRUMENTS = (
    *("playing guitar", "playing electric guitar", "playing bass guitar", "playing ukulele", "playing banjo"),
    *("playing piano", "playing organ", "playing accordion", "playing violin", "playing cello"),
    *("playing double bass", "playing harp", "playing sitar", "playing flute", "playing clarinet"),
    *("playing saxophone", "playing trumpet", "playing trombone", "playing tuba", "playing drums"),
    *("playing tabla", "playing xylophone", "singing"),
)
EVERYDAY = ("dog barking", "playing guitar", "playing piano", "person talking", "car engine", "waterfall")
PRESETS = {"Everyday": EVERYDAY, "Sounds": SOUNDS, "Sports": SPORTS, "Instruments": INSTRUMENTS}
