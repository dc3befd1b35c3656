// Two videos that play in step.

/** Delay in seconds from which a video jumps. */
const JUMP_S = 0.12;

/** Delay in seconds that is ignored; between the two, the video plays slightly faster. */
const CLOSE_S = 0.015;

/** Let a silent video follow another one; onTime gets the time of the leader, at each screen refresh while it plays. */
export function keepInStep(leader, follower, onTime) {
  let frame = 0;
  const align = () => {
    if (!follower || !follower.duration) return;
    const wanted = Math.min(leader.currentTime, Math.max(0, follower.duration - 0.001));
    const late = wanted - follower.currentTime;
    if (Math.abs(late) > (leader.paused ? CLOSE_S : JUMP_S)) {
      if (!follower.seeking) follower.currentTime = wanted;
    } else {
      const catchUp = Math.abs(late) > CLOSE_S ? Math.sign(late) * 0.06 : 0;
      follower.playbackRate = Math.max(0.1, leader.playbackRate * (1 + catchUp));
    }
  };
  const tick = () => {
    align();
    onTime(leader.currentTime);
    frame = leader.paused || leader.ended || !leader.isConnected ? 0 : requestAnimationFrame(tick);
  };
  const onPlay = () => {
    follower?.play().catch(() => {}); // the leader is heard; without it only a picture stands still
    if (!frame) frame = requestAnimationFrame(tick);
  };
  const onStop = () => {
    follower?.pause();
    align();
    onTime(leader.currentTime);
  };
  leader.addEventListener("play", onPlay);
  for (const name of ["pause", "ended"]) leader.addEventListener(name, onStop);
  for (const name of ["seeking", "seeked", "timeupdate", "ratechange"]) {
    leader.addEventListener(name, () => {
      align();
      onTime(leader.currentTime);
    });
  }
  if (follower) {
    follower.muted = true;
    follower.addEventListener("loadeddata", align);
    follower.addEventListener("seeked", () => leader.paused && align());
  }
}
