/* The password of a server that other machines may reach. */
document.getElementById("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const reply = await fetch("/login", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Mavi-View": "1" },
    body: JSON.stringify({ password: document.getElementById("password").value }),
  });
  if (reply.ok) location.assign("/");
  else document.getElementById("problem").textContent = "That is not the password.";
});
