"""Heads, names and titles of tables and charts, in English and Chinese: what real ones are full of."""

from __future__ import annotations

import textwrap

import numpy as np

NAMES = {
    "en": {
        "country": "China|India|United States|Brazil|Nigeria|Japan|Germany|France|Mexico|Egypt|Vietnam|Italy|Kenya|"
        "Canada|Spain|Poland|Chile|Norway|Peru|Turkey|Indonesia|Ghana|Sweden|Portugal|Thailand|Morocco",
        "city": "London|Paris|Tokyo|Lagos|Cairo|Lima|Berlin|Madrid|Rome|Sydney|Toronto|Chicago|Mumbai|Jakarta|Seoul|"
        "Vienna|Oslo|Dublin|Boston|Denver|Hanoi|Nairobi|Athens|Prague",
        "month": "January|February|March|April|May|June|July|August|September|October|November|December",
        "quarter": "Q1|Q2|Q3|Q4|H1|H2|FY19|FY20|FY21|FY22|FY23",
        "product": "Laptops|Phones|Tablets|Cameras|Shoes|Jackets|Books|Toys|Coffee|Tea|Rice|Wheat|Steel|Cement|"
        "Bicycles|Furniture|Cosmetics|Snacks|Fruit|Dairy",
        "method": "Baseline|Ours|CNN|LSTM|Transformer|ResNet-50|ViT-B|SVM|k-NN|Random forest|XGBoost|BERT|GRU|U-Net|"
        "AdaBoost|Lasso|Ridge|PCA|GAN|MLP",
        "sector": "Energy|Finance|Health care|Education|Transport|Retail|Agriculture|Mining|Tourism|Construction|Media|"
        "Real estate|Utilities|Logistics",
        "person": "Smith|Garcia|Chen|Patel|Kim|Novak|Rossi|Müller|Silva|Okafor|Tanaka|Hansen|Dubois|Ivanova|Lopez|Khan",
        "source": "Coal|Gas|Oil|Nuclear|Hydro|Wind|Solar|Biomass|Geothermal|Tidal",
        "age": "0-14|15-24|25-34|35-44|45-54|55-64|65+",
        "material": "Copper|Iron|Zinc|Nickel|Silver|Glass|Nylon|Oak|Granite|Rubber|Cotton|Silk|Wool",
    },
    "zh": {
        "country": "中国|印度|美国|巴西|日本|德国|法国|墨西哥|埃及|越南|意大利|加拿大|西班牙|波兰|智利|挪威|泰国",
        "city": "北京|上海|广州|深圳|成都|杭州|武汉|西安|南京|重庆|天津|苏州|长沙|青岛|大连|厦门|昆明|沈阳|郑州|合肥",
        "month": "一月|二月|三月|四月|五月|六月|七月|八月|九月|十月|十一月|十二月",
        "quarter": "第一季度|第二季度|第三季度|第四季度|上半年|下半年|全年",
        "product": "手机|电脑|相机|服装|图书|玩具|咖啡|茶叶|大米|小麦|钢材|水泥|自行车|家具|化妆品|零食|水果|乳制品",
        "method": "基线|本文方法|卷积网络|支持向量机|随机森林|决策树|逻辑回归|神经网络|聚类|贝叶斯",
        "sector": "能源|金融|医疗|教育|交通|零售|农业|采矿|旅游|建筑|传媒|房地产|物流|制造业",
        "person": "张伟|王芳|李娜|刘洋|陈静|杨帆|赵磊|黄丽|周强|吴敏|徐涛|孙燕|马超|朱琳",
        "source": "煤炭|天然气|石油|核电|水电|风电|太阳能|生物质|地热",
        "age": "儿童|少年|青年|中年|老年|退休",
        "material": "铜|铁|锌|镍|银|玻璃|尼龙|橡木|花岗岩|橡胶|棉花|丝绸|羊毛",
    },
}
HEADS = {
    "en": "Revenue|Sales|Profit|Cost|Price|Units|Share|Growth|Population|Area|Density|Rate|Score|Rank|Accuracy|Recall|"
    "Precision|F1|Loss|Time (s)|Speed|Weight|Height|Length|Age|Year|Total|Mean|Median|Std. dev.|Min|Max|Count|Output|"
    "Exports|Imports|Budget|Balance|Income|Temperature|Pressure|Volume|Energy|Visits|Orders|Errors|Params|Memory (MB)|"
    "Latency|BLEU|AUC|RMSE|Yield|Margin|Index|Rainfall|Humidity|Wind|Votes|Members|Capacity|Efficiency",
    "zh": "收入|销量|利润|成本|价格|数量|份额|增长率|人口|面积|密度|比率|得分|排名|准确率|召回率|精确率|损失|时间|速度|"
    "重量|高度|长度|年龄|年份|合计|均值|中位数|标准差|最小值|最大值|产量|出口|进口|预算|余额|温度|压力|体积|能耗|访问量|订单|"
    "误差|参数量|内存|延迟|降雨量|湿度|风速|票数|会员|容量|效率|库存",
}
TITLES = {
    "en": "{head} by {kind}|{head} of {name}|{name}: {head}|{head}, {year}|Annual {lower} ({year})|"
    "{head} and {lower2} compared|Distribution of {lower}|{head} per {kind}, {year}-{later}|Trends in {lower}|"
    "Comparison of {lower} across {plural}|{year} {lower} report|Monthly {lower} in {name}",
    "zh": "{year}年{head}统计|各{kind}{head}对比|{name}{head}情况|{head}与{head2}|{year}—{later}年{head}变化趋势|"
    "{head}分布图|{name}{year}年{head}|{head}分析|不同{kind}的{head}",
}
KINDS = {
    "en": {k: (k, f"{k}s") for k in NAMES["en"]} | {"country": ("country", "countries"), "city": ("city", "cities")},
    "zh": {
        "country": ("国家", ""), "city": ("城市", ""), "month": ("月份", ""), "quarter": ("季度", ""),
        "product": ("产品", ""), "method": ("方法", ""), "sector": ("行业", ""), "person": ("员工", ""),
        "source": ("能源", ""), "age": ("年龄段", ""), "material": ("材料", ""),
    },
}  # fmt: skip
SOURCES = {
    "en": "National Bureau of Statistics|World Bank|OECD|Company reports|Eurostat|United Nations|Survey {year}|"
    "Annual report {year}|Ministry of Trade|Own calculations|Market research|IEA|WHO|Federal Reserve",
    "zh": "国家统计局|世界银行|公司年报|联合国|{year}年调查|商务部|自行计算|市场研究|中国人民银行|海关总署|行业协会",
}


def shortened(text: str, most: int) -> str:
    """A phrase of at most so many characters, cut between words where it has some."""
    if len(text) <= most:
        return text
    return (textwrap.shorten(text, most, placeholder="") or text[:most]).rstrip(" ,.;:，。；：、([（\"'")


class Vocabulary:
    """Draws what stands in tables and charts of one language ("zh", or English)."""

    def __init__(self, rng: np.random.Generator, language: str) -> None:
        self.rng = rng
        self.language = "zh" if language == "zh" else "en"

    def pick(self, listed: str) -> str:
        items = listed.split("|")
        return items[int(self.rng.integers(len(items)))]

    def head(self) -> str:
        """What a column or an axis is called."""
        return self.pick(HEADS[self.language])

    def heads(self, count: int) -> list[str]:
        """Different ones."""
        items = HEADS[self.language].split("|")
        return [items[i] for i in self.rng.choice(len(items), count, replace=False)]

    def kind(self) -> str:
        """A sort of names."""
        kinds = list(NAMES[self.language])
        return kinds[int(self.rng.integers(len(kinds)))]

    def names(self, kind: str, count: int) -> list[str]:
        """Up to `count` different names of a sort; those with an order keep it."""
        items = NAMES[self.language][kind].split("|")
        if kind in ("month", "quarter", "age"):
            start = int(self.rng.integers(0, max(1, len(items) - count + 1)))
            return items[start : start + count]
        return [items[i] for i in self.rng.choice(len(items), min(count, len(items)), replace=False)]

    def year(self) -> int:
        return int(self.rng.integers(1960, 2026))

    def title(self, kind: str = "") -> str:
        """A title of a table or chart over a sort of names."""
        kind = kind or self.kind()
        head, other, year = self.head(), self.head(), self.year()
        spelt, plural = KINDS[self.language][kind]
        text = self.pick(TITLES[self.language]).format(
            head=head, head2=other, lower=head.lower(), lower2=other.lower(), kind=spelt, plural=plural,
            name=self.names(self.kind(), 1)[0], year=year, later=year + int(self.rng.integers(1, 12)),
        )  # fmt: skip
        return text[:1].upper() + text[1:]

    def source(self) -> str:
        return self.pick(SOURCES[self.language]).format(year=self.year())
