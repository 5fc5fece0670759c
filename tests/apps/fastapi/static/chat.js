// The chat of the page: shows what others send, and sends what is entered.
const messages = document.querySelector("#messages");
const state = document.querySelector("#status");
const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/chat");

socket.onopen = () => { state.textContent = "connected"; };
socket.onclose = (event) => { state.textContent = `closed (${event.code})`; };
socket.onmessage = (event) => {
  const line = document.createElement("li");
  line.textContent = event.data;
  messages.append(line);
};

document.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  const input = event.target.elements.text;
  socket.send(input.value);
  input.value = "";
};
