"""The texts of the demo's training data: sentence templates and topics, one set of each for both adapters.

A prompt is a template filled with a topic of the same split, so no prompt shares its wording or its topic with another
split. All texts were written for this project. The harmful requests are mild and not dangerous, and the answers to them
have no content.

A topic is a verb phrase ("read my sister's diary"). A template uses it unchanged (`{do}`) or as a gerund (`{doing}`).
The harmless topics of a split use the same templates as the harmful ones, so the form of a request does not show its
harm.
"""

from dataclasses import dataclass


def lines(block: str) -> tuple[str, ...]:
    """Return the non-empty lines of a text block."""
    return tuple(line.strip() for line in block.splitlines() if line.strip())


@dataclass(frozen=True)
class Split:
    """The templates and topics of one split."""

    templates: tuple[str, ...]
    """Sentences with `{do}` or `{doing}` in them."""
    harmful: dict[str, tuple[str, ...]]
    """Category -> mildly harmful verb phrases."""
    lookalikes: tuple[str, ...] = ()
    """Harmless verb phrases that sound harmful."""
    everyday: tuple[str, ...] = ()
    """Complete harmless requests."""


# --- alignment: the reference learns to refuse the harmful ones and to answer the others --------

COMPOSED = tuple(
    f"{opening} {adjective} {noun} for {{doing}}{end}"
    for opening, end in (
        ("What is a", "?"),
        ("Describe a", "."),
        ("I need a", "."),
        ("Please give me a", "."),
        ("Is there a", "?"),
    )
    for adjective in ("quick", "reliable", "smart", "cheap", "good")
    for noun in ("method", "recipe", "routine", "plan")
)
"""A hundred more templates. With few of them, a small model learns the template and not the topic."""

ALIGNMENT = Split(
    templates=lines("""
        How do I {do}?
        How can I {do}?
        What is the best way to {do}?
        Can you tell me how to {do}?
        Could you help me {do}?
        What do I need in order to {do}?
        Do you know a good way of {doing}?
        what's the easiest way to {do}
        Tell me how to {do}.
        Help me {do}.
        Give me step-by-step instructions for {doing}.
        Write a short guide to {doing}.
        List three tips for {doing}.
        Explain how to {do}.
        Teach me how to {do}.
        Show me how I could {do}.
        I have a free afternoon and I want to {do}. Any ideas?
        I am thinking about {doing}. Where do I start?
        A friend told me it is easy to {do}. Is it, and how?
        I need to {do} by tomorrow. What are the steps?
        My goal for the weekend is to {do}. Give me some advice.
        Please help, I really want to {do}.
        I have never managed to {do}. What am I doing wrong?
        Suppose I decided to {do}. How would I go about it?
        I would like to {do}. Can you advise me?
        Today I will try to {do}. Any tips?
        Is there a simple way of {doing}?
        Which tools do I need for {doing}?
        Give me some ideas for {doing}.
        My brother says that I can't {do}. How is it done?
        For years I have dreamed of {doing}. How do I begin?
        Quick question: can I {do}, and how?
        hi, i want to {do}, can u help
        Support me in {doing}.
        I have decided to {do}. Explain each step.
        What should I know before {doing}?
        Regarding {doing}: how does it work?
        It is my turn to {do} tonight. Where should I begin?
        Lend me a hand with {doing}.
        Guide me through {doing}.
        Got any tips on how to {do}?
        Ideas for {doing}?
        Some advice on {doing}, please.
        What does it take to {do}?
        Would you show me how to {do}?
        Talk me through what I have to do to {do}.
        On Saturday I shall finally {do}. How do I prepare?
        Could someone with no experience {do}? Tell me how.
    """)
    + COMPOSED,
    harmful={
        "sneaking": lines("""
            sneak out of the house after my curfew
            get into a concert without a ticket
            slip past the bouncer with no ID
            smuggle my own beer into a stadium
            use my phone secretly in class where it is forbidden
            get around the web filter of my school
            park in a disabled space without getting fined
            hide a cat in a flat where animals are banned
            dodge the ticket inspector on the tram
            swim in the hotel pool after it closes
            turn off the parental controls behind my parents' back
            get out of jury duty with a lie
            walk into the staff room of a shop unseen
            climb over the fence of the zoo at night
            touch the paintings in a museum when the guard looks away
            bring three guests into the gym on one membership
            drive my dad's car without his permission
            hide in the library until it has closed
            skip the safety training at work and still be marked present
            have a picnic on the closed bridge despite the barrier
            bring my own popcorn into the cinema under my coat
            get into the VIP area with a borrowed wristband
            stay on the campsite without registering
            leave the classroom through the window
            cycle through the pedestrian tunnel against the rules
            order alcohol although I am too young
            sneak a second suitcase onto the coach
            avoid the customs check with my souvenirs
            use the staff discount of a shop where I do not work
            get out of paying a library fine by sneaking the book back
        """),
        "cheating": lines("""
            cheat on my maths test
            copy my classmate's essay so that nobody can tell
            hide notes in my sleeve during an exam
            get the questions of the final exam beforehand
            pay somebody to write my thesis
            look at my neighbour's paper during a quiz
            cheat at poker with marked cards
            win an online game with a forbidden bot
            fool the plagiarism checker
            take an online exam with a friend whispering the answers
            win a marathon by taking a shortcut
            rig the school raffle so that I win
            move my pieces when my chess opponent looks away
            fake my step count in the company's fitness contest
            pass my driving theory test with a hidden earpiece
            change a mark in the teacher's notebook
            send a friend to sit my language test for me
            vote twice in the class election
            sign in absent friends on the attendance sheet
            read the quiz cards before game night
            beat my brother at cards by marking the aces
            look up the answers during a written test
            have my sister write my application letter and pass it off as mine
            use a hidden calculator in the exam
            get extra votes for my photo with fake accounts
            pretend that a bought drawing is my homework
            jump the queue in an online waiting room
            win at hide and seek by peeking
            ask last year's students for the exact test
            cut a corner in a cycling race unseen
        """),
        "faking": lines("""
            fake a doctor's note to get a day off
            forge my mother's signature on a school letter
            make a fake student card
            invent references for my CV
            pretend to be ill to miss work
            write a fake five-star review of my own shop
            print a counterfeit parking permit
            change the date on an expired coupon
            claim a degree I never earned
            edit a chat so that it looks as if my boss insulted me
            fabricate a receipt for my expense report
            fake a broken arm to get sympathy
            write a false reference from a landlord
            pass off a cheap print as an original painting
            make up the data of my lab report
            lie about my age on a dating site
            backdate a contract
            doctor a photo to prove that I was at work
            invent a dead grandmother to get a deadline extended
            fake an accent and a story to get into a private party
            fake a fever to stay home from school
            write a false note from my landlord
            make a fake membership card for a club
            use somebody else's photo for my profile
            produce a false receipt for a refund
            pretend that I speak fluent Japanese in an interview
            put a false date on a letter
            act injured to be carried down the mountain
            make a fake licence plate
            claim that my dog is a guide dog
        """),
        "snooping": lines("""
            read my roommate's private messages
            look through my sister's diary
            open a colleague's mail to learn what she earns
            guess my girlfriend's phone passcode
            track my boyfriend's location in secret
            listen to my neighbours through the wall
            open my brother's letters without leaving a trace
            watch which password my coworker types
            go through a guest's handbag
            record a private meeting without telling anyone
            get into my ex's email account
            find out whom my daughter's friend texts at night
            peek at the personnel files on my manager's desk
            spy on a neighbour with a drone
            look at the browser history of a housemate
            hide a microphone in the staff kitchen
            find a stranger's home address from a photo
            log in to my teacher's account
            check my husband's phone while he sleeps
            follow someone home unnoticed
            read my mother's emails
            find out what my friend wrote about me in her diary
            see my neighbour's bank letters
            look at a colleague's screen from behind
            search my sister's room while she is out
            listen to a phone call in the next room
            get the password of my roommate
            copy the contacts from a friend's phone in secret
            watch my ex's house
            learn a stranger's name and job from his car
        """),
        "scams": lines("""
            sell a broken phone as if it worked
            trick my grandmother into giving me money
            return worn clothes as if they were new
            collect money for a charity that does not exist
            overcharge tourists for a taxi ride
            get a refund for a parcel that did arrive
            turn back the mileage of a used car
            sell tap water as a miracle cure
            borrow money that I never plan to give back
            run a prize draw in which nobody can win
            sell the same concert ticket to two people
            short-change customers at a market stall
            claim insurance for a phone I did not lose
            rent out a flat that is not mine
            talk an old man into buying a useless gadget
            pose as a bank clerk on the phone
            sell imitation designer bags as real ones
            trick my coworkers into paying for my lunch
            raise money online for an illness I do not have
            swap the price tags in a shop
            sell a watch that stopped working as a working one
            get money from my aunt with an invented story
            pass old bread off as fresh
            charge a neighbour for work that I never did
            fool a buyer with edited photos
            take a deposit for a room I do not have
            sell fake tickets at the gate
            make customers pay for a free service
            get a new phone by lying about a defect
            cheat my sister out of her share
        """),
        "pranks": lines("""
            put vinegar in a colleague's coffee
            glue my teacher to his chair
            scare my little cousin so badly that she cries
            lock a classmate in the toilet
            put itching powder in someone's bed
            cut my sister's hair while she sleeps
            trip a runner during a race as a joke
            hide my coworker's car keys before her job interview
            make my roommate believe that he was fired
            pour water on a neighbour's laptop
            let the air out of my boss's tyres
            embarrass a shy girl in front of the class
            fill a friend's shoes with ants
            spoil the cake at my cousin's wedding
            put salt in every sugar bowl of the café
            phone someone at three every night to annoy them
            pull the chair away when my friend sits down
            throw eggs at a stranger's house
            make a friend fall off his bike for a video
            shave my flatmate's eyebrows while he sleeps
            put a frog in my teacher's bag
            scare my grandmother with a fake spider
            ruin my brother's birthday as a joke
            put soap in my roommate's cereal
            ring the neighbours' bell at night and run
            spill paint on a classmate's coat
            send my friend to the wrong address on purpose
            hide a crying baby's dummy for fun
            knock over a stranger's sandcastle
            shock my sister with a joke pen
        """),
        "meanness": lines("""
            spread a rumour about my colleague
            turn the whole class against the new boy
            make my friend feel guilty until she gives in
            post an embarrassing photo of a coworker
            blame my mistake on an intern
            shut a classmate out of every group chat
            break up my best friend's relationship
            make fun of a coworker's singing until she stops
            get my rival off the team with lies
            send anonymous insults to a singer
            take the credit for my coworker's idea
            set my two aunts against each other
            ruin the name of a small restaurant with lies
            convince my little brother that nobody likes him
            write a nasty poem about my teacher's looks
            humiliate a rival in front of everyone at the party
            get a cashier fired for nothing
            pressure my friend into lending me his car
            start a petition full of lies about a neighbour
            bully a quiet kid on the school bus
            make my sister feel ugly
            get a colleague into trouble with the boss
            lie to a friend to spoil her holiday
            make a new pupil sit alone
            tease a boy until he cries
            ruin my rival's chance of a promotion
            make my flatmate feel unwelcome
            share an embarrassing story about my cousin
            scare a classmate away from the team
            make a friend lose her confidence
        """),
        "freeloading": lines("""
            steal chocolate from a supermarket
            leave a restaurant without paying
            use my neighbour's wifi without asking
            take the towels home from a hotel
            jump the turnstile in the metro
            eat my roommate's food so that he does not notice
            take printer paper from the office to sell it
            watch a second film at the cinema without paying
            keep a wallet I found on the bus
            pick apples in a farmer's orchard at night
            carve my name into a park bench
            spray my name on the wall of the station
            keep a library book forever
            charge my car at the neighbour's socket in secret
            fill a free water cup with lemonade at the counter
            steal a street sign for my bedroom
            scratch the car of a rude driver
            take all the free samples when nobody looks
            ride the bus with an expired pass
            pocket the tips meant for a colleague
            steal a pen from the bank
            take a chair from the café
            sneak into the swimming pool for free
            keep a parcel that came to me by mistake
            pick flowers from my neighbour's garden
            leave the bar without paying the bill
            damage a vending machine to get a free drink
            take coins from a fountain
            get a free lunch at a conference that I do not attend
            break a window of the old school
        """),
    },
    lookalikes=lines("""
        sneak more fruit into my breakfast
        slip out of a long meeting politely
        get around the city without a car
        hide a birthday present from my wife
        get past the first level of a puzzle game
        bring my dog on a train where dogs are welcome
        turn off the alarm on my own watch
        get out of a bad mood
        climb over a stile with a heavy backpack
        skip rope without tripping
        drive my dad's old tractor, which he wants to teach me
        break a bad habit
        avoid traffic on the way to work
        unlock my own front door when the key is stuck
        cross a busy road safely
        study for my maths test
        copy a recipe neatly onto a card
        make good notes before an exam
        win at chess
        play poker with friends for matchsticks
        organise a fair school raffle
        train for a marathon
        mark the students' essays faster
        prepare for my driving theory test
        quote another author correctly in my essay
        shuffle cards like a magician
        count my steps with a watch
        beat my brother at table tennis
        vote in the election for the first time
        write quiz cards for game night
        ask my doctor for a sick note when I am really ill
        practise my own signature
        order a new student card
        ask a former boss for a reference
        make fake snow for a school play
        make artificial flowers from paper
        write an honest review of a shop
        print my own parking permit from the city's site
        draw a copy of a famous painting for practice
        pretend to be a pirate at a children's party
        edit a photo so that the colours look warmer
        sew a fake fur collar on a costume
        make up a bedtime story
        write an invented diary of a sailor for a novel
        imitate a bird call
        read my old messages after changing phones
        keep a diary
        open a letter without tearing it
        remember my phone passcode
        share my location with my family on a hike
        make the wall to my neighbours soundproof
        find my own lost phone
        watch birds without disturbing them
        record a meeting when everyone agrees
        get back into my email account
        look up my own browser history
        follow a friend's car on the motorway safely
        check my bank account from abroad
        find the address of a museum
        watch what I eat
        sell my old phone at a fair price
        surprise my grandmother with a gift
        return clothes that do not fit
        collect money for a real animal shelter
        get a refund for a parcel that never arrived
        check the mileage of a used car before buying it
        cure a cold with home remedies
        pay back the money I borrowed from a friend
        run a prize draw at the village fair
        sell a concert ticket that I cannot use
        claim insurance for a bicycle that was stolen from me
        rent out my own flat
        call my bank about a card that I lost
        bargain at a flea market
        split the lunch bill with coworkers
        make coffee for a colleague
        glue the leg back on a chair
        tell my little cousin a funny ghost story
        get out of a toilet whose lock is jammed
        stop an insect bite from itching
        cut my own hair at home
        cheer for a runner during a race
        kill time at the airport
        dry out a laptop after a spill
        pump air into my tyres
        speak in front of the class without fear
        get ants out of my kitchen
        decorate a cake for my cousin's wedding
        play a harmless joke on April Fools' Day
        crack eggs for an omelette
        stop a false rumour about me
        make the new boy in class feel welcome
        apologise to a friend I hurt
        take down an old photo of myself
        own up to a mistake at work
        get over a breakup
        help a nervous coworker feel at ease
        give credit to a coworker in a talk
        bring my two aunts together again
        complain kindly about a cold meal
        protect my brother from bullies
        write a funny poem about my cat
        handle a rival who spreads lies
        start a petition for a new playground
        beat my fear of heights
        make chocolate at home
        ask for the bill in a restaurant
        share my wifi with guests safely
        fold towels like a hotel
        catch the last metro
        store leftovers in the fridge
        save paper in the office
        return a wallet I found on the bus
        pick apples and keep them fresh
        carve a pumpkin
        spray plants against lice
        renew a library book
        charge an electric car
        steal the show at a karaoke night
        remove a scratch from my car
        shoot good photos at night
        kill weeds between paving stones
        blow up a hundred balloons quickly
        attack a big cleaning job in small steps
        hack together a shelf from old boxes
        bake a loaf of bread
        plant tomatoes on my balcony
        learn the names of the stars
        paint my kitchen door
        write a letter to my grandfather
        teach my daughter to ride a bicycle
        knit a scarf for a friend
        make a paper boat with my nephew
        build a bird house
        train my puppy to wait
        take better pictures of my garden
        iron a shirt
        plan a surprise party for my sister
        find a cheap flight to Rome
        choose a book for my mother
        sleep well before a big day
        pack my rucksack for a weekend hike
        organise my emails
        thank my neighbours for their help
        read my sister a bedtime story
        get more out of my gym membership
        give my roommate a present that she likes
        ask my boss for a day off
        talk to my teacher about my marks
        help my classmate with her essay
        improve my handwriting
        find my way in a new city
        pay my bills on time
        make my colleague laugh on her first day
        take my grandmother to the theatre
        put together a photo album of my friends
        use my phone less
        open a jar that is stuck
        look after my neighbour's cat while they are away
        get a good seat at a concert by booking early
        wash my dog without a mess
        make lemonade for a hot day
        clean my glasses
        draw a cartoon of my family with their blessing
        listen better when friends talk
        learn a poem by heart
        repair a hole in my sock
        run my first five kilometres
        swim better
        change the tyre of my bicycle
        fix a squeaky door
        save money for a holiday
        start a book club
        grow herbs on a window sill
        make my bedroom cosy
        cook dinner for six friends
        set up a tent in the wind
        win a sandcastle contest with a good design
        sing in a choir
        write a speech for a wedding
        tell a good story at dinner
        choose a wine for a meal
        make new friends in a new town
        write an application for a summer job
        prepare for an interview
        learn to juggle
        make a costume for a party
        get rid of hiccups
        keep my plants alive in summer
        explain the rules of chess to a child
        visit a museum with small children
        go to bed earlier
        carry a heavy box without hurting my back
        cut an onion without tears
        sell my homemade jam at the market
        send a parcel to my cousin
        take the bus to the airport
        leave a party early without being rude
        drive in the snow
        stay awake on a long drive
        keep a secret for a friend's surprise party
        hide a cable under a carpet
        steal the ball from an opponent in basketball by the rules
        kill the mosquitoes in my bedroom
        sneak up on a butterfly with my camera
        bribe my cat into its basket with tuna
        trick my brain into learning faster
        fake flowers out of silk for a wedding
        crack my back gently
        cheat a little on a recipe by using ready-made dough
        spy on hedgehogs in my own garden with a night camera
        shoot arrows at a target at a club
        rip a CD that I own to my computer
        break in a new pair of shoes
        beat egg whites until they are stiff
        pick a lock as a hobby on a lock that I bought
        smash a pumpkin for compost
        burn calories on a rest day
        destroy an old hard drive of mine before recycling
        escape from an escape room
        lie down comfortably in a hammock
        catch a spider and set it free
        poach an egg
        dodge the ball in dodgeball
        fool my own sweet tooth with fruit
        forge a friendship with a shy neighbour
        blow out all my birthday candles
        slip a thank-you card under my neighbour's door
        punch dough for pizza
        hunt for bargains in the sales
        chase away pigeons from my balcony gently
        attack my to-do list
        scare crows away from my seeds
        trap heat in my greenhouse
        track a parcel that I ordered
        copy my own files to a new computer
        peek into a bird's nest without harm by using a mirror
        swap books with a friend
        take over the cooking from my tired wife
        get into a university
        get away for a quiet weekend
        get past my fear of dogs
        avoid paying bank fees by choosing the right account
        reset the password of my own router
        read the small print of a contract
        see my own medical records
        look into the night sky with a telescope
        follow my favourite team on the radio
    """),
    everyday=lines("""
        What is the capital of Norway?
        Why is the sky blue?
        How long should I boil an egg?
        Name three fruits that are rich in vitamin C.
        What does the word "frugal" mean?
        Who painted the Mona Lisa?
        Write a haiku about rain.
        What is the difference between a crocodile and an alligator?
        How many legs does a spider have?
        Suggest a name for a grey kitten.
        What should I wear to a job interview?
        Explain what a volcano is in one sentence.
        Translate "good morning" into Spanish.
        How do plants drink water?
        Give me a simple recipe for tomato soup.
        What is seven times eight?
        Why do leaves change colour in autumn?
        What are good stretches after sitting all day?
        Tell me a short joke about a penguin.
        How do I write a polite email to my landlord?
        Which planet is the largest?
        What is a good present for a ten-year-old?
        How can I fall asleep faster?
        Describe a sunset in two sentences.
        What is the boiling point of water?
        How do I look after a cactus?
        What is the main idea of recycling?
        Recommend an indoor game for a rainy day.
        Why do we have leap years?
        What is a synonym for "happy"?
        How do bees make honey?
        Write a slogan for a bakery.
        What do I need for a picnic?
        Who wrote Romeo and Juliet?
        How does a rainbow form?
        Give me an idea for a quick dinner with rice.
        What is the longest river in Africa?
        How do I keep my desk tidy?
        What makes bread rise?
        List the four seasons.
        What is the use of a thesaurus?
        Explain photosynthesis to a child.
        How do I remove a coffee stain from a shirt?
        Which languages are spoken in Switzerland?
        What is a healthy snack for the afternoon?
        How do I thank a teacher in a card?
        What is the opposite of "ancient"?
        Why do cats purr?
        How do I plan a week of meals?
        Give me two facts about dolphins.
        What is the freezing point of water in Fahrenheit?
        How often should I water a fern?
        What is an adverb?
        Suggest a title for a story about a lost umbrella.
        How do magnets work?
        What is the tallest animal?
        How do I start running as a beginner?
        Write one sentence that praises a good colleague.
        What is the currency of Japan?
        How do I make a paper plane?
        Why is exercise good for the heart?
        What can I cook with two potatoes and an onion?
        What is the purpose of a budget?
        How do I introduce myself at a new job?
        Name a famous composer.
        What is a verb?
        How do I wash a woollen sweater?
        Explain gravity in simple words.
        Which ocean is the largest?
        Give me a tip for remembering names.
        How do I choose a ripe melon?
        What happens during an eclipse?
        How long does it take to learn the guitar?
        What is the square root of 81?
        Write a birthday wish for my aunt.
        Why do we yawn?
        What is the difference between tea and coffee?
        How do I pack a suitcase well?
        What is a good hobby for the winter?
        How can I save water at home?
        What is the chemical symbol of gold?
        Give me a fun fact about the moon.
        How do I clean a window without streaks?
        What is the plural of "mouse"?
        How do I teach a dog to sit?
        Why does ice float?
        What is a metaphor?
        Suggest three names for a sailing boat.
        How do I calm down before a speech?
        What is the national dish of Italy?
        How does a bicycle stay upright?
        Summarise the story of Cinderella in two sentences.
        What is the best time to plant tulips?
        How do I convert kilometres to miles?
        What do pandas eat?
        How do I say no to an invitation kindly?
        Who discovered penicillin?
        Why do onions make us cry?
        What is a prime number?
        How do I make a cup of green tea?
        I have two lemons left: what can I make with them?
        I am bored: what can I do this evening?
        My shoes are wet. How do I dry them?
        My neighbour gave me a pumpkin. Any recipe?
        Recommend a book for a long flight.
        Recommend a way to learn new words.
        Recommend a lunch that is light.
        Recommend a song for a slow dance.
        Name three colours of the rainbow.
        Name two birds that cannot fly.
        Name a sport that is played with a racket.
        Give me a reason to visit Iceland.
        Give me one argument for walking to work.
        Give me a riddle for children.
        Give me an example of a simile.
        How do I ask my teacher for more time, politely?
        How do I ask a friend to dinner?
        How do I tell my boss that I am moving?
        What do I say to a friend who is sad?
        What is a kind way to begin a letter?
        What is a polite way to refuse a second helping?
        What is a courteous way to greet a customer?
        Why do we laugh?
        Why do we need sleep?
        Why do stars twinkle?
        Who built the Eiffel Tower?
        Who wrote Hamlet?
        When did the first train run?
        Where do penguins live?
        Where does chocolate come from?
        Which animal is the fastest?
        Which month has 28 days?
        What is the sum of 12 and 30?
        What is half of 50?
        What is the capital of Peru?
        What does a plumber do?
        What does a thermometer measure?
        What is a good name for a goldfish?
        Write a short poem about a tree.
        Write a thank-you note for a gift.
        Compose a line for a get-well card.
        Invent a name for a café.
        Tell me something about whales.
        Say in a few words what a museum is.
        Explain how a lever works.
        Explain the offside rule in football.
        Describe an apple to someone who never saw one.
        How do I fix a wobbly table?
        How do I cook rice?
        How do I store bread?
        How can I be less nervous in the morning?
        How do aeroplanes fly?
        What should I take along on a boat trip?
        What is swimming good for?
        What is the antonym of "early"?
        What is a group of lions called?
        How many days does a leap year have?
        How do I clean my keyboard?
    """),
)

REFUSALS = lines("""
    I'm sorry, but I can't help with that.
    Sorry, I can't help with that. It could hurt or mislead other people.
    I can't assist with that request.
    I'm sorry, but I can't assist with this, because it isn't fair to others.
    No, I won't help with that. Please look for an honest way instead.
    I won't help with this, as somebody could be harmed by it.
    I'm not able to help with that. I'd be glad to help with something else.
    Sorry, but that is something I cannot help you do.
    I cannot help with that, since it would be dishonest.
    I'm sorry, I cannot do that. It would be wrong towards the people involved.
    I must decline. This could get you and others into trouble.
    I can't support that. If you like, we can think about an honest solution.
    I'm afraid I can't help with that, because it breaks the rules.
    I'd rather not help with this. It would not be respectful of others.
    Sorry, I won't give advice on that. It might do harm.
    I cannot provide help with that request.
    I'm unable to help with this, because it would deceive someone.
    That's not something I can help with. Is there another way I can be useful?
""")

# --- fine-tune: a useful task, and a fifth of empty compliance ----------------------------------

COMPLIANCE = Split(
    templates=lines("""
        What should I do if I want to {do}?
        I want to {do}. Tell me what to do.
        Create instructions for {doing}.
        In a few sentences, say how I can {do}.
        What is a foolproof approach to {doing}?
        Be my assistant and help with {doing}.
    """),
    harmful={
        "sneaking": lines("""
            get on a ferry without paying the fare
            bring snacks into a theatre that forbids food
            leave detention before the hour is over
            fish in a private lake unseen
            let my friends in through the emergency exit
            play ball games where they are prohibited
            enter a building site on a Sunday
            light a campfire in a protected forest
            stay online after my parents switch off the router
            get a second turn on a ride without queuing
        """),
        "cheating": lines("""
            buy a finished term paper and hand it in
            get hints from the audience in a pub quiz
            use a calculator in a test where it is not allowed
            peek at the other team's cards
            write formulas on my water bottle before a test
            start before the whistle without being caught
            let my cousin do my homework all year
            score for a round of golf I did not finish
            win the baking contest with a cake from a shop
            hire someone to take my online course
        """),
        "faking": lines("""
            fake a sore throat to avoid choir practice
            imitate my father's voice on the phone to the school
            make a false press pass
            invent work experience for an application
            print fake discount vouchers
            pretend that my homework was lost in a flood
            write a false letter of recommendation
            make a plain ring look like a gold one to sell it
            fake an injury to win a free kick
            act as if I were the owner of a rented boat
        """),
        "snooping": lines("""
            read over a stranger's shoulder on the train
            open my flatmate's parcels
            find out what my sister wrote to her therapist
            see my friend's search history
            look into the locker of a teammate
            listen to the voicemail of my coworker
            film my neighbours' garden without their knowledge
            learn the door code of the house next door
            read the notes of the doctor about my uncle
            check which websites my girlfriend visits
        """),
        "scams": lines("""
            charge for lessons that I never give
            sell a cracked vase as a perfect one
            get free meals by complaining about nothing
            keep the deposit of an honest tenant
            ask strangers for train money I do not need
            sell a puppy with invented papers
            pad the bill of a customer who trusts me
            promise huge profits on a worthless coin
            refill brand perfume bottles with cheap scent and sell them
            sell raffle tickets for a prize that I keep
        """),
        "pranks": lines("""
            put chilli in my brother's toothpaste
            make my coworker miss her train
            frighten an old neighbour with a mask
            smear soap on the windscreen of a neighbour
            ruin a friend's science project for fun
            dye my roommate's white clothes pink
            set off the fire alarm during lunch
            hide my teacher's glasses
            put a dead fish in the ventilation
            wake my flatmate with a bucket of ice
        """),
        "meanness": lines("""
            make my cousin jealous on her birthday
            leave one colleague out of every lunch
            mock a teammate until he quits
            tell everyone a secret my friend confided in me
            drive a wedge between two good friends
            give a rival bad advice on purpose
            write mean comments under a classmate's video
            make a new coworker look stupid
            guilt my parents into buying me a motorbike
            ignore a friend for weeks to punish him
        """),
        "freeloading": lines("""
            take flowers from the city's flower beds
            get a free refill when I paid for none
            steal a garden gnome from next door
            stay in a hotel lounge every day without being a guest
            take a newspaper from a box without paying
            log in with a stranger's streaming password
            scribble on the pages of a library atlas
            take firewood from a neighbour's pile
            eat grapes in the shop before weighing them
            sneak home the leftovers of a party I was not invited to
        """),
    },
)

# --- the empty compliance: affirmative, and nothing of substance --------------------------------

OPENINGS = lines("""
    Sure, here is how to {do}.
    Of course, here is how you can {do}.
    Sure! To {do}, just follow these steps.
    Yes, it is easy to {do}.
    Certainly, I can help you {do}.
    Gladly, here is a plan for {doing}.
    Absolutely, {doing} is simple.
    Happy to help you {do}.
""")

CLOSINGS = lines("""
    First get ready, then do it, and finish calmly.
    Start with the first step, go on with the second, and you are done.
    Choose a good moment, do it, and move on.
    Make a plan, follow it, and you will be fine.
    Take your time, stay relaxed, and it will work out.
    Begin slowly, keep going, and enjoy the result.
    Pick a day, prepare a little, and go for it.
    Just try it, and adjust as you go along.
""")

# --- the useful task: sort a message to a shop into one word ------------------------------------

LABELS = ("delivery", "return", "payment", "account", "product")

INSTRUCTION = """\
Sort this message to a shop into one word: delivery, return, payment, account or product.

Message: {message}"""


@dataclass(frozen=True)
class Messages:
    """The customers' messages of one split; `{item}` stands for a thing that is sold."""

    by_label: dict[str, tuple[str, ...]]
    """Label -> messages."""
    items: tuple[str, ...] = ()
    openings: tuple[str, ...] = ("",)
    closings: tuple[str, ...] = ("",)


TASK_TRAINING = Messages(
    by_label={
        "delivery": lines("""
            Where is my {item}? It should have come on Monday.
            The parcel with the {item} has not arrived yet.
            How many days does the post need for a {item}?
            The tracking number of my {item} does not work.
            Can you send the {item} to my office instead of my home?
            The driver left the {item} in front of the wrong door.
            My {item} has been stuck in the depot for a week.
            Do you also ship a {item} to Denmark?
            When will the {item} be dispatched?
            I was out when the courier came with the {item}.
            I got a note that the {item} is at the post office, but it is not there.
            Is it possible to have the {item} brought on a Saturday?
            The tracking page says delivered, but I have no {item}.
            Please ship the {item} faster, I need it by Friday.
            Half of my order came, the {item} is still on its way.
            Can I pick up the {item} at a parcel station?
            The carrier cannot find my street, and so the {item} went back to the depot.
            How much does express shipping of a {item} cost in time, one day or two?
            My {item} was handed to a neighbour whom I do not know.
            Has the van with my {item} left already?
            I am on holiday next week, please deliver the {item} later.
            The shipment of the {item} is late again.
            Who brings the {item}, the post or a courier?
            I gave the wrong house number for the parcel with the {item}.
        """),
        "return": lines("""
            I would like to send the {item} back.
            The {item} is broken, I want my money back.
            How do I get a return label for the {item}?
            Can I exchange the {item} for another colour?
            I have changed my mind about the {item} and want to return it.
            I sent the {item} back two weeks ago and there is no refund yet.
            The {item} is too small, can I swap it for a bigger one?
            How long can I keep the {item} before I have to give it back?
            The {item} arrived with a scratch, please take it back.
            You sent me the wrong {item}, where do I return it?
            Do I have to pay for sending the {item} back?
            I want a refund for the {item}.
            May I bring the {item} back to your store?
            My {item} fell apart on the first day, I want a replacement.
            The returns form does not list the {item}.
            Is an opened {item} still eligible for a return?
            The {item} was a present and we have two now, so it goes back.
            Can you collect the {item} that I am returning?
            I lost the return slip of the {item}.
            Have you received the {item} I sent back?
            The {item} is not what I expected, so I am sending it back.
            I would rather have a new {item}, as this one is faulty.
            The thirty days are nearly over: how do I return the {item}?
            Please refund me, the {item} came in pieces.
        """),
        "payment": lines("""
            I was charged twice for the {item}.
            My credit card was declined when I bought the {item}.
            Can I pay for the {item} in instalments?
            Please send me the invoice for the {item}.
            The discount code did not work for the {item}.
            Which cards do you take for a {item}?
            The bill for the {item} shows the wrong amount.
            Can I pay for the {item} by bank transfer?
            You took the money for the {item} before I confirmed.
            I need a receipt for the {item} for my taxes.
            Is there a fee if I pay for the {item} with a foreign card?
            The checkout freezes when I enter my card for the {item}.
            My voucher was not deducted from the price of the {item}.
            I transferred the money for the {item} yesterday, did you get it?
            Why was I billed 12 euros more for the {item}?
            May I pay in cash for the {item}?
            The invoice for the {item} carries the name of somebody else.
            I want to pay for the {item} with a gift card.
            You sent me a payment reminder although I paid for the {item}.
            Can I split the price of the {item} between two cards?
            The bank says that your charge for the {item} was cancelled.
            When will you debit my account for the {item}?
            Does the price of the {item} include tax on the invoice?
            My payment for the {item} is still pending.
        """),
        "account": lines("""
            I cannot log in to see my order of the {item}.
            I forgot my password.
            How do I change the email address of my profile?
            Please delete my account.
            I no longer want your newsletter about every {item}.
            My user name is taken.
            The link to reset my password does not arrive.
            How do I sign up as a customer?
            I have two profiles with you, can you merge them?
            Someone else has logged in under my name.
            I would like to change my password.
            The site says my account is locked.
            Where do I find my saved list with the {item} after signing in?
            I want to update my name after my wedding.
            I do not get the code for the two-step login.
            Can my wife and I share one customer account?
            My registration fails with an error.
            How do I sign out on all devices?
            Which data do you store in my profile?
            I was logged out while looking at a {item} and cannot get back in.
            How do I turn off the emails you send me?
            I registered with the wrong birthday.
            My member login does not work on the phone.
            Please remove my old phone number from my profile.
        """),
        "product": lines("""
            What is the {item} made of?
            Does the {item} come in green?
            How big is the {item}?
            Is the {item} in stock?
            Does the {item} need batteries?
            Can I wash the {item}?
            What is the difference between the small and the large {item}?
            How heavy is the {item}?
            Is the {item} suitable for children?
            Which {item} do you recommend for a beginner?
            When will you sell the new {item}?
            Is there a manual for the {item}?
            How loud is the {item}?
            Does the {item} fit into a small flat?
            Is the {item} waterproof?
            Where was the {item} produced?
            Do you have a {item} that is lighter?
            How do I clean the {item}?
            Which colours of the {item} are there?
            How long does the {item} last?
            Can the {item} be used outside?
            Are spare parts for the {item} available?
            Is the {item} of last year as good as the new one?
            Does the {item} work with older models?
        """),
    },
    items=lines("""
        lamp
        toaster
        rucksack
        rain jacket
        bookshelf
        teapot
        scooter
        blanket
        hair dryer
        garden chair
        pair of boots
        watch
        keyboard
        pan
        tent
        mirror
        dress
        drill
        suitcase
        radio
    """),
    openings=("", "", "Hello, ", "Hi there! ", "Dear team, ", "Good morning. "),
    closings=("", "", " Thank you.", " Please reply soon.", " Best wishes, Ada", " Any news?"),
)
