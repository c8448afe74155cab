"""English words that decide where a sentence ends: what the Punkt splitter (Kiss and Strunk, 2006) learns from text.

The abbreviations, pairs and openers are those of its published English model, so that sentence counts can be compared
with evaluations that use it. Of the some 20,000 words whose case that model knows, the two long lists hold those that
opened a sentence in its corpus and the common ones.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NUMBER = "##number##"
"""The type that every number shares."""

ABBREVIATIONS = _words(
    """
    c d e f g h k l m n p r s t v w
    a.a a.c a.d a.g a.h a.m a.m.e a.s a.t b.f b.v c.i.t c.o.m.b c.v d.c d.h d.w e.f e.h e.l e.m f.g f.j g.d g.f g.k h.c
    h.f h.m i.m.s j.b j.c j.j j.k j.p j.r l.a l.f l.p m.b.a m.d.c m.j n.c n.d n.h n.j n.m n.v n.y p.a.m p.m ph.d r.a r.h
    r.i r.j r.k r.t s.a s.a.y s.c s.g s.p.a s.s t.j u.k u.n u.s u.s.a u.s.s.r w.c w.r w.va w.w
    adm col dr gen jr lt maj messrs mr mrs ms prof rep reps sen sr st
    bros chg cie co corp cos ct ft inc ltd mg ok pa sw vs yr
    jan feb aug sep sept oct nov dec tues wed fri
    ala ariz ave calif colo conn fla ga ill kan ky mich minn nev okla ore tenn va vt wash wis
    """
)
"""Words whose final period does not end a sentence by itself."""

PAIRS = frozenset(
    [("b", name) for name in ("edelman", "levine", "smith", "stewart", "wigton")]
    + [("i", name) for name in ("magnin", "toussie")]
    + [("j", name) for name in ("aron", "fialka", "walter")]
    + [("o", "ludcke")]
    + [
        (NUMBER, word)
        for word in _words(
            "abreast aes business cbot colgate commodities cooper corrections credit dividend financing genentech "
            "henley insider international leisure letters notable pay-fone pegasus pepper review rj wedgestone "
            "who zimmer"
        )
    ]
)
"""Word before and word after a period between which no sentence ends."""

OPENERS = _words(
    """
    according although among both but despite even he however i if in indeed instead it many meanwhile moreover most
    nevertheless nonetheless nor sales separately similarly since so some the there these they this though thus under
    when while yet
    """
)
"""Words that, capitalised, begin a sentence even after an abbreviation or an ellipsis."""

ORDINARY = _words(
    """
    above accepted accompanied accordingly achieving ad adding addressing adds adjusted admen advocacy advocates
    afterwards agencies agricultural aiding aim allegations allowing almost along already altogether always amount
    analysis annualized annually anticipating anyone anything apparently applications apply applying approximately
    arbitragers argued arming ask asked asking aspects assertions assigned assisted assume assuming attempts attorneys
    au authorities averages bail ballets basket bat beaches beans begin behind being believe besides better between
    beyond bidders bids bipartisan birds blame blond bond borrowings bottles bouncers boutique break breaking breast
    briefly broader brokerage brokers built buried bus businesses businessmen buyer calculate calculating call calling
    candidate car carries catches censure certainly chagrined chairs challengers check checking cheese chess choose
    citing cleaning climb closing colleagues collecting collectively colors combined combining commissions committed
    compared comparing competing competitors completion complexity concedes concerns conclude conclusion concrete
    confidential consider considered considering consult consumption contact contain content continued continuing
    contributing contributors cops corporations cost costly counting coupled cows cozy cream create created creating
    critics crying curious currently dawn dealers default defendants define definitive denial depending describing
    designed details determinations determine develop developers differences different directing disappointing
    discover discuss discussion dish dive diverse dividing diving documents does doesn dogs domestic double dozens
    draft drinks dumping eager earlier early earning eased eating effective eight either elaborate embrace emerging
    emotions employee employer employers enabling encourage encouraging engineers enjoy enter equally era especially
    establish established estimated eventually ever everywhere evidence examination example examples excellent except
    excess excited excluding exercise experience experts explain exploring expressed faced faith falling families fans
    faster feeling fellow females fewer figures final finally finish fliers flimsy flowers flying follow following
    forget formerly founded frequent frustrated fully furthermore gainers gaining gasoline gift girl given giving
    global going grab gratitude guests guitar guy hands hanging happy hasn headlines hearing heating heaven helped
    hence her here highlight hike hiring historian historically hog honor hoping hot hours ideal ideally identity
    ignore imagine immediately implementing importance improved include including incorporate increased indeed
    independent indications individuals inform informed initial initially innovation inside instead intellectuals
    interior interpretations introducing invariably inventories inventory invest investigate jeans journalists junior
    kid kids known landmark language lately launched lawmakers le leaders leadership leading lean learn lesser lifting
    likewise lion liquor lives looking losing lovastatin lover lowering lunch maintaining majestic manage manufactured
    maquila maquilas massive maturing meaning meantime mention mild miles milk minus missed mistakes mom monopoles
    moreover mother mothers motivation multiply narrower nasty nationally naturally nature negotiating neighbors
    neither nervousness nevertheless nonetheless nor normally note nowhere number numbers numerous obsessional
    occasionally occupied officer offsetting opponents originally otherwise outboard outgoing overall overdue
    overwhelmed paced painful paint participants participating particularly partly passengers patients pending per
    percentage performances physical places platinum play playing please pleased plot pointing political politicians
    polls popularity positive possibly potato practice precious preferred preparation prepare presently pressed
    presumably previous previously priced prince prior private problem proceeds professor profitable program
    promotions proponents prove provide provides proving provisions psychologists purchasers pushing put putting
    question questions racquets rain rarely recent recently reduced refrain regardless regular relationship releasing
    reliable relief relocating remember removing renting repeated researchers residential resolution respond
    responding responses restraining restricting results retired revise ribaminol right rising rivalry romance
    romantic roses round rows rural sad sadly saving seasonally section seeing seldom select selling senators separate
    separately setting settling seven seventh sharply shipping ships shooting shortly shouting signaling similarly
    simultaneously sitting skeptics skilled slowly sluggish smaller so soldiers solid solve solving somehow someone
    sometime sometimes son soon sounds source soybean specialized specifically speculation spend spending spillover
    spinning spoken spokesmen sponsorship squash starting staying step still stopping strict striking studio style
    subsequently succeeding such sucralose suddenly sufficient summit sunny supported suppose surely surround surveys
    swimming taking task taste tea team teams technological ten terms testing thank thanks themes thereafter therefore
    things think though through throughout thus tiny tip together tomatoes tomorrow trace tradition traditionally
    trained traveling treat true truth try trying turn turnout typically ultimately uncertain understand undoubtedly
    unexpectedly unfortunately unhappy unions unknown unleaded unless unlike unsecured upon us using vacations various
    ve victory visitors voters wage waiting walking waterfront wear weather welcome were wheat whenever whereas
    whether which widely winner wisdom within without words working writing written yes yesterday yet yields your
    youth zoo
    """
)
"""Words that are capitalised only where a sentence begins."""

LOWER_CASE = ORDINARY | _words(
    """
    a according across add after again all also although among an and another answer any are as at avoid be because
    before both but by can children come company could cross despite do don during each end even every everyone
    express farmer find first five for four from get give go good got great had half has have he his how however if in
    introduction is it its job join just keep know knowing large last later let like limit long look love machine make
    man many mark maybe me meanwhile more most movie my new next night no not now of on once one only options or our
    out over people perhaps plus return said sales say second senior she since six some start summer tell that the
    their then there these they this those three tickets time to today total twice two uncle under understanding until
    up use usually was we well what when where while who why will with world would write you young
    """
)
"""Words that are also written in lower case: names are not."""
