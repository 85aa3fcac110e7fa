"""Decode packets to frames with positions on the recording's timeline, wherever reading starts."""

from collections.abc import Iterator
from fractions import Fraction

import av
import av.error
from av.audio.codeccontext import AudioCodecContext
from av.packet import Packet

from zsfuse_ray.audio.container import DecodeError, Source, check_layout
from zsfuse_ray.audio.durations import counts_bytes

PREROLL_S = 2.0  # decoded and dropped before a slice, to settle bit reservoirs, overlaps and filter states
JITTER_S = 0.010  # rounding of timestamps coarser than a sample, if frame lengths vary
OVERLAP_S = 0.5  # frames may overlap by this; a larger jump back means concatenated streams
FAR_S = 60.0  # a jump further ahead than this, and past the stated duration, is an invalid timestamp
UNEVEN = {"vorbis"}  # frame lengths vary, possibly not among the first few
CONTIGUOUS = {"flac"}  # samples are numbered: a gap means lost frames, which the decoder does not report

# Codecs with noise or dither from a generator that continues across frames, or with slowly decaying filters:
# their output depends on where decoding started. Each stretch of the recording has its own decoder, started
# PREROLL_S earlier, so that the samples depend on the recording alone.
WANDERING = {"aac", "aac_latm", "ac3", "amrnb", "amrwb", "eac3", "mp1", "mp2", "opus", "adpcm_yamaha"}
WANDERING |= {"adpcm_ima_qt", "nellymoser"}
STRETCH_S = 20

# AAC encoders put 1024 samples or more before the sound (64 ms at 16 kHz), which only mp4 states. Players of
# other containers show the sound that much later than the original has it; half of it is close to both.
DELAYED = {"aac": 512}
STATE_DELAY = {"mov,mp4,m4a,3gp,3g2,mj2"}

Position = int | Fraction  # in samples; a fraction after frames at another rate


class Clock:
    """Positions of frames, in samples at the first frame's rate from the zero of the recording's clock.

    A frame's position is computed from its own timestamp if that is precise enough, so it does not depend on
    whether earlier frames were decoded.
    """

    def __init__(self, source: Source, head: list[av.AudioFrame], damaged: bool):
        """Determine the clock from the first frames; damaged: earlier packets could not be decoded."""
        first = head[0]
        name, container = source.stream.codec_context.name, source.container.format.name
        self.rate = first.sample_rate
        time_base = source.stream.time_base or Fraction(0)
        self._tick = time_base * self.rate  # in samples
        self._origin: Position = first.pts or 0  # in ticks
        if source.zero_s is not None and first.pts is not None and time_base:
            self._origin = source.zero_s / time_base
        elif damaged and source.stream.start_time is not None:
            self._origin = min(self._origin, source.stream.start_time)
        if name in DELAYED and container not in STATE_DELAY and time_base:
            self._origin += Fraction(DELAYED[name], self.rate) / time_base
        self.start = round(((first.pts or 0) - self._origin) * self._tick) if first.pts is not None else 0
        self._far = max(source.stated_s or 0.0, FAR_S) * self.rate
        self._last_pts = first.pts
        lengths = {frame.samples for frame in head[1:]}
        even = len(head) > 3 and len(lengths) == 1 and name not in UNEVEN
        self._base = self.start + first.samples
        self._spacing = 0
        self._jitter = 0.0
        # An Ogg file without a duration has concatenated streams, with timestamps from 0 in each.
        joined = container == "ogg" and source.stated_s is None
        self._placed = not counts_bytes(container, name)
        self.can_seek = first.pts is not None and self._placed and not joined
        if self._tick.numerator != 1:  # samples are no whole number of ticks: timestamps are rounded
            if even and max(lengths) > 2 * self._tick:
                self._spacing = max(lengths)  # rounding is undone by snapping to the frame spacing
                self._jitter = 0.75 * self._spacing
            else:
                self._jitter = JITTER_S * self.rate
                self.can_seek = False

    def ticks(self, position: int) -> int:
        """Return the container's timestamp of a position."""
        return int(self._origin + position / self._tick)

    def position(self, pts: int) -> int:
        """Return the position of a timestamp of the container."""
        position = round((pts - self._origin) * self._tick)
        if self._spacing:
            return self._base + round((position - self._base) / self._spacing) * self._spacing
        return position

    def place(self, frame: av.AudioFrame, expected: Position | None) -> Position | None:
        """Return a frame's position; expected: end of the previous frame, None after a seek."""
        if frame.pts is None or not self._tick or not self._placed:
            return expected
        position = self.position(frame.pts)
        advances = self._last_pts is None or frame.pts > self._last_pts
        self._last_pts = frame.pts
        if expected is None:
            return position
        ahead = position - expected
        if abs(ahead) <= self._jitter or position > max(self._far, expected + FAR_S * self.rate):
            return expected
        if ahead < 0 and not (self.can_seek and advances and -ahead <= OVERLAP_S * self.rate):
            return expected
        return position


class Frames:
    """Iterate over decoded frames from the container's current position; skips undecodable packets."""

    def __init__(self, source: Source, clock: Clock | None = None, stretch: int = 0):
        self.clock = clock  # without one, everything belongs to the first stretch
        self.faults = 0
        self.faulty_s = 0.0  # length of the packets that failed since the last frame
        self.broken: str | None = None  # why the container could not be read to its end
        self.start: int | None = None  # position of the first packet read with a clock
        self.contiguous = source.stream.codec_context.name in CONTIGUOUS
        self.wanders = source.stream.codec_context.name in WANDERING
        self._source = source
        self._first = stretch
        self._decoders = {} if stretch and self.wanders else {0: source.stream.codec_context}

    def __iter__(self) -> Iterator[av.AudioFrame]:
        packets = self._source.container.demux(self._source.stream)
        while True:
            self._source.check()
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                self._source.check()
                self.broken = error.strerror or type(error).__name__
                return
            except IndexError:  # raised by PyAV at the end of a file with a stream that starts late
                return
            if packet is None:
                return
            if self.clock is None and packet.has_sidedata("encryption_info"):
                raise DecodeError("drm", f"the audio is encrypted: {self._source.uri}")
            if self.clock is not None and packet.pts is not None:
                position = self.clock.position(packet.pts)
                self.start = position if self.start is None else self.start
                if self.wanders:
                    self._renew(position, self.clock.rate)
            for stretch, decoder in list(self._decoders.items()):
                yield from self._decode(packet, stretch, decoder)

    def _renew(self, position: int, rate: int) -> None:
        """Start the decoders of the current stretch and of one about to begin; drop finished ones."""
        now, soon = (max(0, int(at) // (STRETCH_S * rate)) for at in (position, position + PREROLL_S * rate))
        for stretch in (now, soon):
            if stretch >= self._first and stretch not in self._decoders:
                self._decoders[stretch] = _new_decoder(self._source.stream.codec_context)
        for stretch in [stretch for stretch in self._decoders if stretch < now]:
            del self._decoders[stretch]

    def _stretch(self, frame: av.AudioFrame) -> int | None:
        if self.clock is None or frame.pts is None or not self.wanders:
            return None
        end = self.clock.position(frame.pts) + frame.samples - 1
        return max(0, end // (STRETCH_S * self.clock.rate))

    def _decode(self, packet: Packet, stretch: int, decoder: AudioCodecContext) -> Iterator[av.AudioFrame]:
        try:
            frames = decoder.decode(packet)
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            if stretch == min(self._decoders):
                self.faults += 1
                if packet.duration and packet.time_base:
                    self.faulty_s += float(packet.duration * packet.time_base)
            return
        for frame in frames:
            if frame.samples and frame.sample_rate and self._stretch(frame) in (None, stretch):
                check_layout(frame.layout.nb_channels, frame.sample_rate, self._source.uri)
                self.faulty_s = 0.0
                yield frame


def _new_decoder(like: AudioCodecContext) -> AudioCodecContext:
    decoder = av.CodecContext.create(like.codec, "r")
    assert isinstance(decoder, AudioCodecContext)
    decoder.extradata = like.extradata
    decoder.sample_rate = like.sample_rate
    decoder.layout = like.layout
    return decoder
