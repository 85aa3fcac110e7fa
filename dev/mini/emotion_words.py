"""Words and templates to train the small text encoder, and others to test it."""


def _words(text: str) -> tuple[str, ...]:
    """Words separated by spaces; a hyphen stands for a space within one."""
    return tuple(word.replace("-", " ") for word in text.split())


# Emotion → words for it, including all of method.labels.SYNONYMS.
LEARNED: dict[str, tuple[str, ...]] = {
    "angry": _words(
        "angry anger mad furious enraged irritated annoyed hostile aggressive wrathful rage fury outraged "
        "irate resentful indignant bitter heated shouting angrily furiously hateful offended violent "
        "yelling cross wrath temper ill-tempered bad-tempered hot-tempered short-tempered irascible "
        "outrage indignation resentment irritation annoyance irritable aggravated infuriating maddened "
        "seething boiling ranting raging snarling growling scolding fierce ferocious belligerent "
        "hostility aggression antagonistic combative spiteful vengeful vindictive malicious acrimonious "
        "bitterness hatred ticked-off pissed-off fed-up worked-up riled provoked displeased cranky grumpy "
        "grouchy crabby tetchy testy snappy choleric steaming in-a-rage losing-his-temper "
        "beside-herself-with-anger rageful angered infuriation exasperating madness angriness up-in-arms "
        "cursing berating threatening"
    ),
    "happy": _words(
        "happy happiness joyful joy cheerful glad delighted merry pleased elated jolly content gleeful "
        "delight cheerfulness smiling happily cheerfully sunny radiant joyfully lighthearted enjoyment "
        "positive blithe bubbly buoyant chipper chirpy beaming grinning gladness pleasure pleasant mirth "
        "mirthful merriment jolliness glee elation euphoric euphoria exultant jubilant jubilation "
        "rejoicing rapturous exuberant festive carefree good-humored in-high-spirits good-mood "
        "on-cloud-nine over-the-moon tickled-pink contented satisfied satisfaction gratified fulfilled "
        "grateful thankful rosy sunny-mood bright light-hearted delightful enjoying enchanted charmed "
        "laughing-with-joy full-of-joy joyfulness happy-go-lucky celebrating heavenly celebratory perky "
        "sprightly"
    ),
    "sad": _words(
        "sad sadness unhappy sorrowful depressed gloomy grieving miserable melancholy sorrow downcast "
        "tearful grief unhappiness sadly crying weeping blue hurt lonely depressing disappointed "
        "regretful gloom down low downhearted heavy-hearted broken-hearted blue-mood glum morose dismal "
        "dreary forlorn wretched sombre somber mopey moping brooding melancholic wistful pitiful "
        "plaintive doleful lugubrious desolate despairing disheartened discouraged dispirited crestfallen "
        "let-down disappointment devastated distraught anguished anguish heartache heartsick bereaved "
        "grief-stricken lamenting lament sobbing wailing whimpering tears in-tears teary weepy "
        "on-the-verge-of-tears depression misery pain suffering loneliness homesick sulking remorse "
        "regret upset saddened low-spirited inconsolable cheerless joyless pessimistic tragic sad-mood"
    ),
    "neutral": _words(
        "neutral neutrality emotionless unemotional indifferent impassive ordinary flat matter-of-fact "
        "normal neutrally factual monotone objective standard regular no-emotion without-emotion "
        "impartial plain even unmarked usual everyday common typical businesslike bland deadpan "
        "poker-faced blank stoic stoical inexpressive affectless toneless dry clinical informational "
        "reading-aloud uninflected unbiased balanced nonemotional not-emotional no-particular-emotion "
        "with-no-feeling without-feeling feeling-nothing unfeeling-tone default baseline middle moderate "
        "conversational newsreader robotic mechanical level unmoved emotionally-flat neutral-tone "
        "neutral-mood impersonal nothing-special just-talking plainly flatly impassively unexpressive "
        "noncommittal equable ordinarily straightforward"
    ),
    "calm": _words(
        "calm calmness peaceful serene relaxed tranquil composed soothing placid calmly serenity "
        "tranquility gentle peace relaxation quietude at-ease unworried cool collected cool-headed "
        "level-headed unperturbed undisturbed unflustered unhurried unagitated easygoing easy-going "
        "laid-back mellow chilled chill quiet still stillness sedate steady poised self-possessed "
        "self-assured patient patience placidity composure equanimity repose peacefulness peaceable "
        "pacific hushed soft soft-spoken mild gently softly comfortable comforting reassuring soothed "
        "calming calmed relaxing unwinding meditative zen tranquilly serenely harmonious stress-free "
        "free-of-worry at-peace at-rest imperturbable leisurely settled"
    ),
    "fearful": _words(
        "fearful fear afraid scared frightened terrified anxious panicked terror nervous worried anxiety "
        "fearfully scare panic uneasy trembling frightening dreadful spooked scary timid timorous "
        "apprehensive apprehension trepidation foreboding phobic phobia panicky panicking panic-stricken "
        "terror-stricken terrifying terrorized aghast-with-fear scaredy shaking shaking-with-fear quaking "
        "quivering cowering shivering spine-chilled jittery jumpy on-edge edgy nervy nervousness "
        "high-strung skittish tense tension stressed stress distressed worry worrying worrisome concerned "
        "fretful fretting uneasiness unsettled insecure intimidated threatened daunted cowardly "
        "hysterical paranoid in-a-panic fearfulness fearing scared-stiff scared-to-death freaked-out "
        "creeped-out nightmarish menaced unnerved rattled"
    ),
    "disgust": _words(
        "disgust disgusted revolted repulsed disgusting nauseated sickened repelled revulsion distaste "
        "gross repulsive revolting nauseous sick yuck disgustedly squeamish dislike queasy nausea "
        "sickening stomach-turning yucky icky ick ew eww ugh vile foul nasty filthy rank rotten putrid "
        "loathsome abhorrent abhorrence abominable odious obnoxious offensive repugnant repugnance "
        "repellent repel revolt distasteful unsavory unpalatable detestation detesting abomination "
        "hating-the-smell gagging retching vomiting turned-off put-off squeamishness sick-to-the-stomach "
        "wanting-to-vomit feeling-sick disgustingly disgusts repulsively revulsed contaminated tainted "
        "noxious disrelish antipathy this-is-gross that-is-disgusting disapproving-disgust"
    ),
    "surprised": _words(
        "surprised surprise astonished amazed shocked startled astounded astonishment amazement stunned "
        "surprising unexpected speechless wonder pleasantly-surprised surprisedly amazing shock awe wow "
        "aghast astounding astonishing shocking staggered staggering stupefied thunderstruck dumbstruck "
        "awestruck awed wonderstruck wide-eyed gobsmacked jolted caught-off-guard caught-unawares "
        "bowled-over blown-away unexpectedly unprepared incredulous incredulity disbelief disbelieving "
        "unbelievable jaw-dropping open-mouthed gasping gasp oh-my-god no-way what sudden suddenly "
        "marveling marvel wondering wonderment bolt-from-the-blue surprise-gift did-not-expect-it agape "
        "lost-for-words electrified unforeseen mind-blown astonishingly amazedly shockingly stunning"
    ),
    "bored": _words(
        "bored boredom uninterested listless weary apathetic dull tedious unenthusiastic boring yawning "
        "monotony lifeless unexcited sluggish fed-up-with-routine uninspired uninspiring indolent languid "
        "lethargic lethargy apathy ennui tedium tiresome dreariness droning humdrum mundane repetitive "
        "wearisome unmotivated uninvolved unconcerned disengaged indifferent-and-bored bored-stiff "
        "bored-to-death bored-to-tears yawn sighing dragging drawling slow spiritless half-hearted "
        "lackadaisical lackluster passionless unstimulated unoccupied idle nothing-to-do uneventful stale "
        "stultified mind-numbing dull-voice tired-of-it without-interest losing-interest killing-time "
        "blase"
    ),
    "contempt": _words(
        "contempt contemptuous scornful disdainful scorn disdain mocking sneering scorning derisive "
        "derision disrespect disrespectful belittling condescending condescension patronizing sneer "
        "sarcastic sarcasm snide arrogant haughty supercilious dismissive mockery ridicule jeering "
        "despising looking-down-on disparaging contemptible superior snobbish"
    ),
    "excited": _words(
        "excited excitement thrilled enthusiastic eager ecstatic energetic exhilarated exciting "
        "exhilarating exhilaration thrill thrilling eagerness enthusiasm zealous passionate fired-up "
        "pumped hyped animated lively agog aroused stimulated fervent feverish keyed-up energized "
        "vivacious psyched"
    ),
    "frustrated": _words(
        "frustrated frustration exasperated exasperation dissatisfied frustrating thwarted stymied "
        "discontented impatient impatience at-wits-end stuck hindered unfulfilled dissatisfaction "
        "disgruntled"
    ),
    "tired": _words(
        "tired exhausted sleepy fatigued drowsy weak worn-out drained fatigue sleepiness exhaustion "
        "tiredness dozy sluggish-with-sleep half-asleep burned-out spent run-down groggy needing-sleep"
    ),
    "confused": _words(
        "confused puzzled perplexed confusion bewildered baffled bewilderment disoriented muddled "
        "mixed-up uncertain unsure lost doubtful doubt hesitant hesitation perplexity mystified "
        "nonplussed not-understanding"
    ),
    "proud": _words(
        "proud pride triumphant proudly triumph victorious boastful smug self-satisfied accomplished "
        "confident confidence self-confident assured boasting"
    ),
    "loving": _words(
        "loving tender affectionate love caring lovingly tenderness affection warm warm-hearted fond "
        "fondness adoring romantic devoted compassionate compassion sympathetic sympathy kind kindly "
        "kindness friendly in-love admiring admiration"
    ),
    "amused": _words(
        "amused amusement laughing funny playful laughter laugh giggling chuckling humorous humor comical "
        "joking teasing entertained hilarious witty ironic tickled jocular"
    ),
    "ashamed": _words(
        "ashamed shame guilty embarrassed embarrassment guilt humiliated humiliation mortified sheepish "
        "remorseful apologetic self-conscious shy bashful sorry blushing"
    ),
    "serious": _words(
        "serious formal stern solemn seriousness grave gravely earnest earnestly strict severe sober "
        "official formally authoritative determined resolute"
    ),
    "interested": _words(
        "interested curious attentive interest curiosity intrigued fascinated fascination engrossed "
        "absorbed inquisitive attentively asking questioning"
    ),
    "desperate": _words(
        "desperate hopeless despair desperation pleading begging imploring hopelessness helpless "
        "helplessness powerless overwhelmed"
    ),
    "hopeful": _words(
        "hopeful optimistic hope hopefully optimism encouraged encouraging anticipating anticipation "
        "expectant longing-for looking-forward trusting relieved relief"
    ),
    "jealous": _words("jealous jealousy envious envy covetous possessive resentful-of-success"),
}

# Held out of training, to test generalisation to words outside the lists above.
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
