"""Pages in other languages, from a few sentences each; and pages in traditional characters, which are Chinese."""

from __future__ import annotations

import random

SENTENCES: dict[str, tuple[str, ...]] = {
    "ja": (
        "{n}さんは毎朝早く起きて、川のそばを散歩します。",
        "この町の市場では、新しい魚と野菜を売っています。",
        "昨日は雨が降ったので、家で本を読んでいました。",
        "駅から学校までは歩いて{d}分ぐらいかかります。",
        "お茶を飲みながら、友達と話すのが好きです。",
        "来週、{n}さんは海の近くの村へ行くつもりです。",
        "祭りの日には、みんなで歌を歌って踊ります。",
        "このパンはとても柔らかくて、おいしいです。",
        "古い橋の上から、{d}そうの船が見えました。",
        "冬になると、山は雪で白くなります。",
        "窓を開けると、鳥の声がよく聞こえます。",
        "{n}さんの弟は小さな店で働いています。",
    ),
    "ko": (
        "{n} 씨는 매일 아침 강가를 산책합니다.",
        "이 마을 시장에서는 신선한 생선과 채소를 팝니다.",
        "어제는 비가 와서 집에서 책을 읽었습니다.",
        "역에서 학교까지 걸어서 {d}분쯤 걸립니다.",
        "친구와 차를 마시면서 이야기하는 것을 좋아합니다.",
        "다음 주에 {n} 씨는 바닷가 마을에 갈 것입니다.",
        "축제 날에는 모두 함께 노래하고 춤을 춥니다.",
        "이 빵은 아주 부드럽고 맛있습니다.",
        "오래된 다리 위에서 배 {d}척이 보였습니다.",
        "겨울이 되면 산이 눈으로 하얗게 됩니다.",
        "창문을 열면 새 소리가 잘 들립니다.",
    ),
    "de": (
        "{n} geht jeden Morgen am Fluss spazieren.",
        "Auf dem Markt dieser Stadt werden frischer Fisch und Gemüse verkauft.",
        "Gestern hat es geregnet, deshalb blieb ich zu Hause und las ein Buch.",
        "Vom Bahnhof bis zur Schule braucht man zu Fuß etwa {d} Minuten.",
        "Ich trinke gern Tee und unterhalte mich dabei mit Freunden.",
        "Nächste Woche möchte {n} in ein Dorf am Meer fahren.",
        "Am Tag des Festes singen und tanzen alle zusammen.",
        "Dieses Brot ist sehr weich und schmeckt ausgezeichnet.",
        "Von der alten Brücke aus sah man {d} Schiffe.",
        "Im Winter werden die Berge weiß vom Schnee.",
        "Wenn man das Fenster öffnet, hört man die Vögel.",
    ),
    "fr": (
        "{n} se promène chaque matin au bord de la rivière.",
        "Au marché de cette ville, on vend du poisson frais et des légumes.",
        "Hier il a plu, alors je suis resté chez moi à lire un livre.",
        "De la gare à l'école, il faut environ {d} minutes à pied.",
        "J'aime boire du thé en parlant avec mes amis.",
        "La semaine prochaine, {n} veut aller dans un village près de la mer.",
        "Le jour de la fête, tout le monde chante et danse ensemble.",
        "Ce pain est très tendre et vraiment délicieux.",
        "Depuis le vieux pont, on voyait {d} bateaux.",
        "En hiver, les montagnes deviennent blanches de neige.",
        "Quand on ouvre la fenêtre, on entend bien les oiseaux.",
    ),
    "ru": (
        "{n} каждое утро гуляет у реки.",
        "На рынке этого города продают свежую рыбу и овощи.",
        "Вчера шёл дождь, поэтому я остался дома и читал книгу.",
        "От вокзала до школы можно дойти пешком за {d} минут.",
        "Я люблю пить чай и разговаривать с друзьями.",
        "На следующей неделе {n} хочет поехать в деревню у моря.",
        "В день праздника все вместе поют и танцуют.",
        "Этот хлеб очень мягкий и вкусный.",
        "Со старого моста было видно {d} кораблей.",
        "Зимой горы становятся белыми от снега.",
        "Если открыть окно, хорошо слышно птиц.",
    ),
    "es": (
        "{n} pasea todas las mañanas junto al río.",
        "En el mercado de esta ciudad se vende pescado fresco y verdura.",
        "Ayer llovió, así que me quedé en casa leyendo un libro.",
        "De la estación a la escuela se tarda unos {d} minutos a pie.",
        "Me gusta tomar té mientras hablo con mis amigos.",
        "La semana que viene {n} quiere ir a un pueblo cerca del mar.",
        "El día de la fiesta todos cantan y bailan juntos.",
        "Este pan es muy tierno y está riquísimo.",
        "Desde el puente viejo se veían {d} barcos.",
        "En invierno las montañas se vuelven blancas por la nieve.",
        "Cuando se abre la ventana, se oye bien a los pájaros.",
    ),
}
"""Language -> sentences; {n} a name, {d} a number."""

TITLES: dict[str, str] = {
    "ja": "{n}さんの日記",
    "ko": "{n} 씨의 일기",
    "de": "Das Tagebuch von {n}",
    "fr": "Le journal de {n}",
    "ru": "Дневник: {n}",
    "es": "El diario de {n}",
}

TRADITIONAL: tuple[str, ...] = (
    "圖書館在{d}點開門，到了晚上才關門。",
    "這個學期，學校裡來了{d}個新同學。",
    "鐵路邊的車站又小又舊，可是很乾淨。",
    "下雨的時候，老師讓大家在屋裡聽故事。",
    "從這裡到海邊，坐船要{d}個小時。",
    "醫院對面有一間賣麵包的店，每天都有很多人。",
    "爺爺說，過去這條街上住著{d}戶人家。",
    "冬天來了，園子裡的樹葉都落了。",
    "我們把書放進{d}個箱子，再送到樓上去。",
    "聽見鐘聲，孩子們都從門口跑出來。",
    "誰也不知道那幅畫是什麼時候畫的。",
    "橋邊的燈亮了，水裡也有{d}盞燈。",
    "這幾天很熱，大家都在樹下說話。",
    "弟弟數了數天上的鳥，一共有{d}隻。",
    "報紙上說，明年要修一條新的路。",
    "媽媽買了{d}個雞蛋，準備做一個大蛋糕。",
)
"""For pages in Big5, which has traditional characters only."""


def foreign_page(lang: str, name: str, rng: random.Random) -> tuple[str, list[str]]:
    """Title and paragraphs in `lang`."""
    joint = "" if lang == "ja" else " "
    paragraphs = _paragraphs(SENTENCES[lang], name, joint, rng)
    return TITLES[lang].format(n=name), paragraphs


def traditional_page(rng: random.Random) -> tuple[str, list[str]]:
    """Title and paragraphs in Chinese in traditional characters that Big5 holds."""
    return f"第{rng.randint(2, 999)}頁", _paragraphs(TRADITIONAL, "", "", rng)


def _paragraphs(sentences: tuple[str, ...], name: str, joint: str, rng: random.Random) -> list[str]:
    paragraphs = []
    for _ in range(3):
        drawn = rng.sample(sentences, rng.randint(4, 5))
        paragraphs.append(joint.join(sentence.format(n=name, d=rng.randint(2, 400)) for sentence in drawn))
    return paragraphs
