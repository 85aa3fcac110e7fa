"""Words and templates that a small text encoder learns emotions from, and others that test it."""


def _words(text: str) -> tuple[str, ...]:
    """Words separated by spaces; a hyphen stands for a space within one."""
    return tuple(word.replace("-", " ") for word in text.split())


# Emotion -> words for it, all that method.labels.SYNONYMS knows among them.
LEARNED: dict[str, tuple[str, ...]] = {
    "angry": _words(
        "angry anger mad furious enraged irritated annoyed hostile aggressive wrathful rage fury "
        "outraged irate resentful indignant bitter heated shouting angrily furiously hateful offended "
        "violent yelling"
    ),
    "happy": _words(
        "happy happiness joyful joy cheerful glad delighted merry pleased elated jolly content gleeful "
        "delight cheerfulness smiling happily cheerfully sunny radiant joyfully lighthearted enjoyment "
        "positive"
    ),
    "sad": _words(
        "sad sadness unhappy sorrowful depressed gloomy grieving miserable melancholy sorrow downcast "
        "tearful grief unhappiness sadly crying weeping blue hurt lonely depressing disappointed "
        "regretful gloom"
    ),
    "neutral": _words(
        "neutral neutrality emotionless unemotional indifferent impassive ordinary flat matter-of-fact "
        "normal neutrally factual monotone objective standard regular no-emotion without-emotion "
        "impartial"
    ),
    "calm": _words(
        "calm calmness peaceful serene relaxed tranquil composed soothing placid calmly serenity "
        "tranquility gentle peace relaxation quietude at-ease unworried"
    ),
    "fearful": _words(
        "fearful fear afraid scared frightened terrified anxious panicked terror nervous worried "
        "anxiety fearfully scare panic uneasy trembling frightening dreadful spooked scary"
    ),
    "disgust": _words(
        "disgust disgusted revolted repulsed disgusting nauseated sickened repelled revulsion distaste "
        "gross repulsive revolting nauseous sick yuck disgustedly squeamish dislike"
    ),
    "surprised": _words(
        "surprised surprise astonished amazed shocked startled astounded astonishment amazement stunned "
        "surprising unexpected speechless wonder pleasantly-surprised surprisedly amazing shock awe wow"
    ),
    "bored": _words(
        "bored boredom uninterested listless weary apathetic dull tedious unenthusiastic boring yawning "
        "monotony lifeless unexcited sluggish"
    ),
    "contempt": _words("contempt contemptuous scornful disdainful scorn disdain mocking sneering"),
    "excited": _words("excited excitement thrilled enthusiastic eager ecstatic energetic exhilarated"),
    "frustrated": _words("frustrated frustration exasperated exasperation dissatisfied"),
    "tired": _words("tired exhausted sleepy fatigued drowsy"),
    "confused": _words("confused puzzled perplexed confusion"),
    "proud": _words("proud pride triumphant"),
    "loving": _words("loving tender affectionate love caring"),
    "amused": _words("amused amusement laughing funny playful"),
    "ashamed": _words("ashamed shame guilty embarrassed"),
    "serious": _words("serious formal stern solemn"),
    "interested": _words("interested curious attentive"),
    "desperate": _words("desperate hopeless despair"),
    "hopeful": _words("hopeful optimistic hope"),
}

# Never in training: they show what a word outside the lists above is worth.
UNSEEN: dict[str, tuple[str, ...]] = {
    "angry": _words("infuriated livid incensed fuming vexed"),
    "happy": _words("joyous jovial overjoyed upbeat blissful"),
    "sad": _words("mournful heartbroken dejected despondent woeful"),
    "neutral": _words("dispassionate unaffected expressionless detached"),
    "calm": _words("untroubled restful unruffled"),
    "fearful": _words("fright alarmed petrified dread horrified"),
    "disgust": _words("grossed-out repulsion appalled aversion loathing"),
    "surprised": _words("dumbfounded flabbergasted startlement taken-aback"),
    "bored": _words("disinterested jaded unengaged wearied"),
}

TEMPLATES_LEARNED: tuple[str, ...] = (
    "{}",
    "this person is feeling {}.",
    "this person is feeling {}",
    "emotion is {}",
    "speaker is {}",
    "this is a {} instance",
    "A person is speaking in a {} style.",
    "A speaker in a {} tone.",
    "speech has {} emotion",
    "This is a sound of {}",
    "i can hear {}",
    "this is {}",
    "a {} voice",
    "a man says it, {}.",
    "the woman is {}",
    "the speaker sounds {}",
    "someone talking with {}",
    "{} speech",
)

TEMPLATES_UNSEEN: tuple[str, ...] = (
    "sentence is {}",
    "speaker is very {}",
    "this is the sound of {}",
    "The sound of {} can be heard.",
    "this is an audio of {}",
    "You can tell that the talker is {}.",
    "a recording of {} talking",
    "the tone of voice was {}",
    "words spoken in a {} manner",
    "What emotion? {}!",
)
