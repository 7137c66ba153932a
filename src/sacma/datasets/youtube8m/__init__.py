"""YT8M-GZSL: two-stage benchmarks made of the features of YouTube-8M, which anyone may pass on.

YouTube-8M (2018 release, Google, CC BY 4.0; Abu-El-Haija et al., 2016, https://arxiv.org/abs/1609.08675) has
features of 6.1 million videos: one audio and one visual vector a second, or one of each a video.

    topics    which topics are classes, and how classes are split
    videos    a record of a shard as a video
    folder    shards -> a benchmark folder in our format
"""
