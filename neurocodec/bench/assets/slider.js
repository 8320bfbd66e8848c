"use strict";
// Two pictures one over the other, and a bar between them.

class Slider {
  // stage: an element of class "stage" with two img, a .bar and two .tag; range: an input beside it
  constructor(stage, range) {
    this.stage = stage;
    this.range = range;
    [this.under, this.over] = stage.querySelectorAll("img");
    this.bar = stage.querySelector(".bar");
    this.tags = stage.querySelectorAll(".tag");
    const follow = event => {
      const box = stage.getBoundingClientRect();
      this.move((event.clientX - box.left) / box.width);
    };
    stage.addEventListener("pointerdown", event => {
      stage.setPointerCapture(event.pointerId);
      follow(event);
    });
    stage.addEventListener("pointermove", event => {
      if (event.buttons || event.pointerType === "mouse") follow(event);
    });
    range.addEventListener("input", () => this.move(range.value / 1000));
    this.move(0.5);
  }

  move(share) {
    share = Math.min(1, Math.max(0, share));
    this.over.style.clipPath = `inset(0 0 0 ${100 * share}%)`;
    this.bar.style.left = `${100 * share}%`;
    this.range.value = Math.round(1000 * share);
  }

  // left, right: {source, name}
  show(left, right, width, height) {
    this.stage.style.aspectRatio = `${width} / ${height}`;
    const zoom = Math.max(1, Math.min(3, Math.floor(1038 / width)));  // small frames whole times
    this.stage.style.maxWidth = `${Math.min(1038, width * zoom)}px`;
    this.under.src = left.source;
    this.over.src = right.source;
    this.under.alt = left.name;
    this.over.alt = right.name;
    this.tags[0].textContent = left.name;
    this.tags[1].textContent = right.name;
  }
}
