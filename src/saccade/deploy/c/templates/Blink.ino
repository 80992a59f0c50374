// {{ name }}: classifies a picture of zeros and blinks as often as the number of its class, plus one.
#include <{{ name }}.h>

static struct {{ name }} net;
static {{ name }}_input picture[{{ frames }}];
static int64_t logits[{{ NAME }}_LOGITS];

void setup() {
    pinMode(LED_BUILTIN, OUTPUT);
}

void loop() {
    // put a frame of the camera into picture here
    {{ name }}_run(&net, picture, logits);
    for (int i = 0; i <= {{ name }}_class(logits); i++) {
        digitalWrite(LED_BUILTIN, HIGH);
        delay(200);
        digitalWrite(LED_BUILTIN, LOW);
        delay(200);
    }
    delay(2000);
}
