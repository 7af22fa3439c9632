"""The words of the invented world in both languages: syllables for names, and the values that facts can have."""

from __future__ import annotations

from typing import Literal, NamedTuple

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, Language] = ("en", "zh")


class Word(NamedTuple):
    """One thing, named in English and in Chinese."""

    en: str
    zh: str

    def get(self, lang: Language) -> str:
        """The word in `lang`."""
        return self.en if lang == "en" else self.zh


def _words(text: str) -> tuple[Word, ...]:
    """Words from `english=chinese` entries set apart by commas."""
    return tuple(Word(*entry.strip().split("=")) for entry in text.split(","))


SYLLABLES = _words(
    "ka=卡, mo=莫, ta=塔, lin=林, ri=里, na=娜, be=贝, do=多, sa=萨, lu=卢, mi=米, ro=罗, ke=克, ve=维, du=杜, no=诺, "
    "ge=格, li=丽, ba=巴, su=苏, de=德, lo=洛, ma=马, ni=尼, fa=法, ren=仁, to=托, la=拉, ze=泽, bi=比, gu=古, han=汉, "
    "wen=文, yo=约, ja=贾, len=伦"
)
"""Each has a fixed character, so a name can be transliterated without a table of names."""

TOWN_ENDINGS = _words("ford=津, vale=谷, haven=港, bury=堡")
DISH_KINDS = _words("stew=炖菜, pie=馅饼, broth=汤, cake=糕")
WEEKDAYS = _words("Monday=星期一, Tuesday=星期二, Wednesday=星期三, Thursday=星期四, Friday=星期五, Saturday=星期六")

VALUES: dict[str, tuple[Word, ...]] = {
    "job": _words(
        "baker=面包师, teacher=教师, doctor=医生, farmer=农民, sailor=水手, carpenter=木匠, tailor=裁缝, painter=画家, "
        "driver=司机, nurse=护士, fisher=渔夫, potter=陶工, clerk=职员, miner=矿工, gardener=园丁, printer=印刷工"
    ),
    "food": _words(
        "noodles=面条, dumplings=饺子, rice=米饭, fish soup=鱼汤, bread=面包, cheese=奶酪, pears=梨, beans=豆子, "
        "eggs=鸡蛋, pancakes=煎饼, honey=蜂蜜, plums=李子, tofu=豆腐, mushrooms=蘑菇, chestnuts=栗子, pumpkin=南瓜"
    ),
    "pet": _words(
        "cat=猫, dog=狗, parrot=鹦鹉, rabbit=兔子, goose=鹅, tortoise=乌龟, goat=山羊, hen=母鸡, duck=鸭子, frog=青蛙, "
        "owl=猫头鹰, pigeon=鸽子, fox=狐狸, crow=乌鸦"
    ),
    "instrument": _words(
        "flute=长笛, drum=鼓, harp=竖琴, violin=小提琴, guitar=吉他, trumpet=小号, piano=钢琴, gong=锣, lute=琵琶, "
        "horn=圆号, cello=大提琴, organ=风琴, zither=古筝, bell=铃"
    ),
    "colour": _words(
        "red=红色, blue=蓝色, green=绿色, yellow=黄色, white=白色, black=黑色, purple=紫色, grey=灰色, orange=橙色, "
        "pink=粉色, brown=棕色, silver=银色"
    ),
    "product": _words(
        "salt=盐, silk=丝绸, tea=茶叶, paper=纸, glass=玻璃, wool=羊毛, copper=铜, timber=木材, wine=酒, coal=煤, "
        "rope=绳子, soap=肥皂, lamps=灯, knives=刀, boats=船, carpets=地毯"
    ),
    "region": _words(
        "North Plain=北原, River Valley=河谷, East Coast=东岸, High Hills=高山, South Forest=南林, Lake Country=湖乡, "
        "West Desert=西漠, Long Island=长岛"
    ),
    "emblem": _words(
        "heron=白鹭, tree=大树, anchor=锚, star=星星, wheel=车轮, bridge=桥, lion=狮子, sun=太阳, key=钥匙, fish=鱼, "
        "tower=高塔, rose=玫瑰, bear=熊, ship=帆船, moon=月亮, crown=王冠"
    ),
    "month": _words(
        "January=一月, February=二月, March=三月, April=四月, May=五月, June=六月, July=七月, August=八月, "
        "September=九月, October=十月, November=十一月, December=十二月"
    ),
    "custom": _words(
        "fly kites=放风筝, light lanterns=点灯笼, race boats=赛船, plant trees=种树, bake cakes=烤蛋糕, "
        "sing songs=唱歌, "
        "ring bells=敲钟, wear masks=戴面具, throw flowers=撒花, dance in rings=跳圆舞, climb poles=爬竿, "
        "tell riddles=猜谜语"
    ),
    "ingredient": _words(
        "cabbage=白菜, pork=猪肉, lentils=扁豆, trout=鳟鱼, carrots=胡萝卜, barley=大麦, ginger=姜, potatoes=土豆, "
        "crab=螃蟹, lamb=羊肉, spinach=菠菜, walnuts=核桃"
    ),
}
"""Relation -> values. Relations whose values are towns (`town`, `place`, `origin`) take them from the world."""

RELATIONS: dict[str, tuple[str, ...]] = {
    "person": ("job", "town", "food", "pet", "instrument", "colour"),
    "town": ("product", "region", "emblem"),
    "festival": ("month", "place", "custom"),
    "dish": ("ingredient", "origin"),
}
"""Kind of entity -> what can be said of it."""

TOPICS: dict[str, Word] = {
    "job": Word("work", "工作"),
    "town": Word("home", "家"),
    "food": Word("food", "食物"),
    "pet": Word("animal", "动物"),
    "instrument": Word("music", "音乐"),
    "colour": Word("colour", "颜色"),
    "product": Word("goods", "东西"),
    "region": Word("map", "地图"),
    "emblem": Word("flag", "旗"),
    "month": Word("time", "时间"),
    "place": Word("place", "地方"),
    "custom": Word("custom", "习俗"),
    "ingredient": Word("pot", "锅"),
    "origin": Word("kitchen", "老家"),
}
"""Relation -> what it is about, in one word."""
