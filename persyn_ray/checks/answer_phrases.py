"""Finds phrases that announce an answer ('the answer is'), in several languages.

`The final answer is 72.`, `Antwort: 72`, `La respuesta es 72`, `答案是72。`, `Ответ: 72`.
"""

import re

# What an answer is called, and what leads from there to it; a colon or an equals sign always does.
_WORDS = (
    (
        r"answer|ans|answers(?=\s*(?:are|:))",
        r"is|are|equals|(?:would|must|should|will) be|comes (?:out )?to(?: be)?",
    ),
    (r"(?:correct|right|best) (?:option|choice|letter|alternative)", r"is|would be|must be"),
    (r"(?:final|overall|correct) (?:result|solution)|result(?=\s*[:=])|solution(?=\s*:)", r"is"),
    (r"antwort|lösung(?=\s*:)|(?:end)?ergebnis", r"ist|lautet|beträgt"),  # German
    (r"antwoord", r"is|luidt"),  # Dutch
    (r"svaret|svar", r"är|er"),  # Swedish, Danish, Norwegian
    (r"réponse", r"est|vaut"),  # French
    (r"respuestas?", r"es|son|sería"),  # Spanish
    (r"respostas?", r"é|são|seria"),  # Portuguese
    (r"risposta", r"è|sarebbe"),  # Italian
    (r"ответ(?:ом)?", r"равен|является|будет|это|[-–—]"),  # Russian
    (r"відповідь", r"це|[-–—]"),  # Ukrainian
    (r"odpowiedź|odpowiedzią", r"to|brzmi|wynosi|jest"),  # Polish
    (r"odpověď", r"je|zní"),  # Czech
    (r"απάντηση", r"είναι"),  # Greek
    (r"cevap|yanıt", r"şudur"),  # Turkish
    (r"đáp án|câu trả lời|đáp số", r"là"),  # Vietnamese
    (r"jawaban(?:nya)?", r"adalah|ialah"),  # Indonesian
    (r"jibu", r"ni"),  # Swahili
    (r"(?:ال)?(?:إجابة|جواب)", r"هي|هو"),  # Arabic
    (r"پاسخ|جواب", r"برابر است با"),  # Persian
    (r"ה?תשובה", r"היא"),  # Hebrew
    (r"उत्तर", r"है"),  # Hindi
    (r"উত্তর", r"হলো|হল"),  # Bengali
    (r"సమాధానం", r"అంటే"),  # Telugu
)
_UNSPACED = (
    (r"答案|最终结果|答", r"应该是|應該是|应为|應為|等于|等於|是|为|為"),  # Chinese
    (r"答え|正解|解答", r"は"),  # Japanese
    (r"정답|답", r"은|는"),  # Korean
    (r"คำตอบ", r"คือ"),  # Thai
)
_MARKS = r"[\s*_`\"']*"  # bold and quotation marks between the words
_FILLER = (
    r"(?:\s*(?:therefore|thus|hence|simply|then|now|clearly|indeed|equal to|given by|option|choice"
    r"|:)(?!\w),?)*"
)
_LEAD = r"(?:\s*(?:{0})(?![^\W_])|{1}(?:[:：=]|→|\\to\b))"
_SPACED = "|".join(
    rf"(?:{noun})(?![^\W_])[^\n.:：=]{{0,60}}?{_LEAD.format(verbs, _MARKS)}"
    for noun, verbs in _WORDS
)
_JOINED = "|".join(
    rf"(?:{noun})[^\n。.:：=\d]{{0,12}}?(?:{verbs}|[:：=])" for noun, verbs in _UNSPACED
)
_PHRASE = re.compile(
    rf"(?:(?<![^\W_])(?:{_SPACED})|{_JOINED}){_MARKS}{_FILLER}[\s*_:：]*", re.IGNORECASE
)
_SHORT = re.compile(r"(?:^|\n)\s*(?:\*\*)?A(?:\*\*)?\s*:\s*(?:\*\*)?(?=[^\n]*\s*$)")
_HEADING = re.compile(
    r"(?:^|\n)[#*_\s]*(?:final |the |correct )*answer[*_\s]*\n[#*_\s]*", re.IGNORECASE
)

_BEFORE = re.compile(
    r"[\s*_\"'`#]*(?:so|thus|therefore|hence)?,?\s*"
    r"(?:(?:the|my|our|die|la|il|el|a|de|het|final|correct|right)\s+)*",
    re.IGNORECASE,
)

# A full stop that ends a sentence: not a decimal point, not that of "Rs. 72" or "5 p.m."
_SENTENCE_END = re.compile(
    r"[\n。｡।？]|(?<![Rr]s)(?<!\bNo)(?<!\bapprox)(?<!\b[ap]\.m)[.?](?=[*_\"'`)]*(?:\s|$))"
    r"|(?<=[!！])\s"
)
_REASON = re.compile(
    r",?\s+(?:because|since|as (?=[a-z])|which|where|i hope|given that|denn|weil|car|porque|perché"
    r"|потому что|так как)(?![^\W_])|因为|，所以|,所以",
    re.IGNORECASE,
)
_PARTICLE = re.compile(
    r"\s*(?:です|でした|である|だ|となります|になります|입니다|이다|이에요|예요|है|হবে|ครับ|ค่ะ|olur)$"
)


def announced(text: str) -> str | None:
    """What follows the last phrase, to the end of its sentence; None without a phrase."""
    found = [phrase for phrase in _phrases(text) if text[phrase.end() :].strip(" \n*_.$`\"'")]
    if not found:
        return None
    return sentence(text[max(phrase.end() for phrase in found) :])


def announced_at_once(text: str) -> str | None:
    """What follows a phrase that a text begins with, such as `Answer: 72`."""
    phrase = _PHRASE.search(text, 0, 80)
    if phrase is None or _BEFORE.fullmatch(text, 0, phrase.start()) is None:
        return None
    return text[phrase.end() :]


def _phrases(text: str) -> list[re.Match[str]]:
    return [match for pattern in (_PHRASE, _SHORT, _HEADING) for match in pattern.finditer(text)]


def sentence(text: str) -> str:
    """The first sentence of a text, without reasons and without what ends it."""
    text = text.lstrip()
    for opening, closing in (("$$", "$$"), ("\\[", "\\]")):
        if text.startswith(opening) and closing in text[2:]:
            return text[: text.index(closing, 2) + 2]
    text = _SENTENCE_END.split(text, maxsplit=1)[0]
    text = _REASON.split(text, maxsplit=1)[0]
    return _PARTICLE.sub("", _paired(text.strip()))


def _paired(text: str) -> str:
    """Without marks at an end whose partner stands before the sentence."""
    for mark in ("**", "__", "*", "`", '"'):
        if text.count(mark) % 2:
            text = text.removesuffix(mark) if text.endswith(mark) else text.removeprefix(mark)
    return text.strip()
