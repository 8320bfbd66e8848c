"""What a reader accepts. Every length is checked against these before memory is taken."""

MAX_SIDE = 16384  # luma samples
MAX_PIXELS = 1 << 25  # luma samples of a frame: 8192 x 4096
MAX_GOP_FRAMES = 1024
MAX_SECTION_BYTES = 1 << 28
MAX_HEADER_BYTES = 1 << 22
MAX_TEXT_BYTES = 1 << 12
MAX_TRACKS = 32
MAX_TRACK_BYTES = 1 << 20  # description of one audio track
MAX_METADATA = 256  # entries
MAX_GOPS = 1 << 24
MAX_PACKETS = 1 << 20  # audio packets of one section
MAX_TIME = 1 << 62  # of the magnitude of a timestamp, exclusive
MAX_DURATION = (1 << 32) - 1  # of a frame or audio packet
MAX_STEPS = 16  # of a generator's schedule
MAX_TERM = (1 << 31) - 1  # numerator or denominator of a fraction
